#!/usr/bin/env bash
# One relay run with Postfix's load tools: smtp-source -> server under test -> smtp-sink.
#
# Usage: relay.sh PORT [MESSAGES] [SESSIONS] [OCTETS]
#   PORT        where the server listens on 127.0.0.1; its smart host for everything is 127.0.0.1:$SINK_PORT
#   SRC_FLAGS   further flags of smtp-source: -d keeps connections, without it one message per connection
#   SINK_PORT   default 2626
#
# smtp-source and smtp-sink must be on the PATH. As root smtp-sink runs as nobody. Prints two rates, messages per
# second: until smtp-source had its last 250, and until the sink had everything.
set -euo pipefail
port=$1 messages=${2:-5000} sessions=${3:-50} octets=${4:-4096} sink_port=${SINK_PORT:-2626}

counted=$(mktemp)
as_user=()
[ "$(id -u)" = 0 ] && as_user=(-u nobody)
smtp-sink "${as_user[@]}" -c "127.0.0.1:$sink_port" 1000 >"$counted" 2>&1 &
sink=$!
trap 'kill $sink 2>/dev/null; wait $sink 2>/dev/null || true; rm -f "$counted"' EXIT
sleep 0.3

# Only the end of the output is read: the sink writes its counter anew for each message.
delivered() { tail -c 120 "$counted" | grep -aoE 'mesg=[0-9]+' | tail -1 | cut -d= -f2 || true; }

begun=$(date +%s.%N)
# shellcheck disable=SC2086 # several flags
smtp-source ${SRC_FLAGS:-} -s "$sessions" -m "$messages" -l "$octets" \
    -f sender@penstock.test -t recipient@elsewhere.test "127.0.0.1:$port"
accepted=$(date +%s.%N)
got=0
for _ in $(seq 6000); do
    got=$(delivered)
    [ "${got:-0}" -ge "$messages" ] && break
    sleep 0.02
done
ended=$(date +%s.%N)

awk -v n="$messages" -v got="${got:-0}" -v a="$begun" -v b="$accepted" -v c="$ended" \
    -v sessions="$sessions" -v octets="$octets" 'BEGIN {
    printf "messages=%d sessions=%d octets=%d accept=%.0f/s end-to-end=%.0f/s delivered=%d\n",
        n, sessions, octets, n / (b - a), got / (c - a), got
}'
[ "${got:-0}" -ge "$messages" ]
