"""What of the spool's state needs an operator."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

from penstock.views import DISK_LOW

__all__ = ["disk_alarms", "spool_alarms"]

MEGABYTE: Final = 1024 * 1024


def spool_alarms(
    samples: Mapping[tuple[str, tuple[str, ...]], float], recovery: Mapping[str, Any]
) -> Iterator[tuple[str, str]]:
    """Yield alarms: a short stable name and a sentence each.

    Args:
        samples: Counters and gauges by name and labels.
        recovery: What was found when the spool was opened.
    """
    salvaged = recovery.get("salvaged")
    if salvaged is not None:
        yield (
            "index_salvaged",
            f"The spool's index was made anew from its log ({salvaged['reason']}): {salvaged['messages']} "
            f"messages, of which {salvaged['may_repeat']} may be delivered a second time.",
        )
    if recovery["is_restored"]:
        yield (
            "restored",
            "What the spool holds was brought back from a backup: nothing is delivered. Stop the daemon, run "
            "`penstock spool release`, and start it again.",
        )
    if recovery["damaged"]:
        yield (
            "log_damaged",
            f"{recovery['damaged']} places of the spool's log could not be read; there are reports in its "
            "directory `damaged`.",
        )
    contents = samples.get(("spool_damaged_total", ("0", "content")), 0)
    if contents:
        yield (
            "content_damaged",
            f"Stored content was found damaged {contents:.0f} times; its messages are in the queue Poison, "
            "and there are reports in the spool's directory `damaged`.",
        )
    rows = samples.get(("spool_damaged_total", ("0", "index_row")), 0)
    if rows:
        yield (
            "index_damaged",
            f"{rows:.0f} rows of the spool's index cannot be read, and their messages are not delivered: "
            "stop the daemon and run `penstock spool salvage`.",
        )


def disk_alarms(
    samples: Mapping[tuple[str, tuple[str, ...]], float], spool: str, free_min_bytes: int
) -> Iterator[tuple[str, str]]:
    """Yield an alarm while new mail is refused for want of room.

    Args:
        samples: Counters and gauges by name and labels.
        spool: Where the spool is.
        free_min_bytes: How much room mail is to leave.
    """
    if samples.get(("pressure_level", ("disk",))):
        free = samples["spool_free_bytes", ()]
        yield (
            DISK_LOW,
            f"New mail is refused for want of room: {free / MEGABYTE:.0f} MB are free at "
            f"{spool}; refuse_mail_below is {free_min_bytes / MEGABYTE:.0f} MB, and another segment of "
            "the log has to fit.",
        )
