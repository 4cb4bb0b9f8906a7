//! Incoming connections: what is answered under a grant, and what is asked all the same.

use std::sync::atomic::Ordering;

use bytes::Bytes;
use penstock_core::smtp::command::{Command, parse_command};
use penstock_net::{
    CloseReason, Conn, ContentStatus, Grant, MemoryPeer, NetAction, ServerLimits, StandardReplies,
};

use crate::harness::*;

const MAIL: &[u8] = b"MAIL FROM:<me@a.example>\r\n";
const RCPT: &[u8] = b"RCPT TO:<you@b.example>\r\n";
const DATA: &[u8] = b"DATA\r\n";
const LIMIT_BYTES: u64 = 1000;

fn limits() -> ServerLimits {
    let standard = StandardReplies {
        mail: Bytes::from_static(b"250 sender\r\n"),
        data: Bytes::from_static(b"354 granted\r\n"),
        limit_bytes: LIMIT_BYTES,
        takes_size: true,
        takes_body: true,
    };
    ServerLimits { standard, idle_ms: 60_000, ..ServerLimits::default() }
}

/// A peer whose last command was answered with a grant.
fn granted(bench: &mut Bench, grant: Grant) -> (MemoryPeer, Conn, u32) {
    let (peer, conn) = bench.session(limits());
    let asked = bench.commands(&peer, b"NOOP\r\n");
    bench.act(granting(conn, asked.turn, "250 ok\r\n", grant));
    assert_eq!(peer.recv(), b"250 ok\r\n");
    (peer, conn, asked.turn)
}

/// A peer whose MAIL was answered and nobody was told of it.
fn answered(bench: &mut Bench) -> (MemoryPeer, Conn, u32) {
    let (peer, conn, turn) = granted(bench, Grant::Mail);
    peer.send(MAIL);
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"250 sender\r\n");
    (peer, conn, turn)
}

fn item(line: &[u8]) -> Command {
    parse_command(line.strip_suffix(b"\r\n").unwrap()).unwrap()
}

#[test]
fn a_message_costs_a_turn_for_each_recipient_and_one_for_its_content() {
    let mut bench = Bench::new();
    bench.recorder.drafts.store(2, Ordering::Relaxed);
    let (peer, conn, mut turn) = granted(&mut bench, Grant::Mail);
    for mail in [&b"MAIL FROM:<> SIZE=12 BODY=8BITMIME\r\n"[..], b"MAIL FROM:<>\r\n"] {
        peer.send(mail);
        bench.nothing_happens();
        assert_eq!(peer.recv(), b"250 sender\r\n");
        let asked = bench.commands(&peer, RCPT);
        assert_eq!((asked.items, asked.answered), (vec![Ok(item(mail)), Ok(item(RCPT))], 1));
        assert_eq!(asked.turn, turn + 1);
        bench.act(granting(conn, asked.turn, "250 recipient\r\n", Grant::Data));
        assert_eq!(peer.recv(), b"250 recipient\r\n");
        peer.send(DATA);
        bench.nothing_happens();
        assert_eq!(peer.recv(), b"354 granted\r\n");
        peer.send(b"Subject: x\r\n.\r\n");
        let taken = content(bench.event());
        assert_eq!((taken.draft, taken.status, taken.size), (GRANTED_DRAFT, ContentStatus::Complete, 12));
        assert_eq!(taken.octets, b"Subject: x\r\n");
        assert_eq!(taken.turn, turn + 2);
        bench.act(await_durable_granting(conn, taken.turn, Grant::Mail));
        bench.net.complete(&[(conn, taken.turn, true)]);
        bench.nothing_happens();
        assert_eq!(peer.recv(), b"250 kept\r\n");
        turn = taken.turn;
    }
    assert_eq!(*bench.recorder.hints.lock(), [12, 0]);
    let counted = bench.net.statistics();
    assert_eq!((counted.stale_actions, counted.misplaced_actions), (0, 0));
}

#[test]
fn the_verdict_on_content_grants_whichever_way_it_goes_and_whenever_it_comes() {
    for (is_durable, is_first) in [(true, true), (true, false), (false, true), (false, false)] {
        let mut bench = Bench::new();
        let (peer, conn) = bench.session(limits());
        bench.taking(&peer, conn, Draft::default(), 100);
        peer.send(b".\r\n");
        let taken = content(bench.event());
        if is_first {
            bench.net.complete(&[(conn, taken.turn, is_durable)]);
        }
        bench.act(await_durable_granting(conn, taken.turn, Grant::Mail));
        if !is_first {
            bench.net.complete(&[(conn, taken.turn, is_durable)]);
        }
        peer.send(MAIL);
        bench.nothing_happens();
        let verdict = if is_durable { "250 kept" } else { "451 lost" };
        assert_eq!(peer.recv(), format!("{verdict}\r\n250 sender\r\n").as_bytes());
    }
}

#[test]
fn a_grant_is_for_the_next_command_only() {
    // Used up.
    let mut bench = Bench::new();
    let (peer, conn, _) = answered(&mut bench);
    let asked = bench.commands(&peer, MAIL);
    assert_eq!((asked.items, asked.answered), (vec![Ok(item(MAIL)), Ok(item(MAIL))], 1));
    bench.reply(conn, asked.turn, "503 no\r\n", 1);
    let asked = bench.commands(&peer, MAIL);
    assert_eq!((asked.items, asked.answered), (vec![Ok(item(MAIL))], 0));
    // Missed, and not given again.
    let (peer, conn, _) = granted(&mut bench, Grant::Mail);
    let asked = bench.commands(&peer, b"NOOP\r\n");
    bench.reply(conn, asked.turn, "250 ok\r\n", 1);
    assert_eq!(bench.commands(&peer, MAIL).answered, 0);
    // Nothing is granted at first, nor for another command.
    let (peer, _) = bench.session(limits());
    assert_eq!(bench.commands(&peer, MAIL).answered, 0);
    bench.recorder.drafts.store(1, Ordering::Relaxed);
    for (grant, line) in [(Grant::Mail, DATA), (Grant::Data, MAIL), (Grant::None, MAIL), (Grant::None, DATA)]
    {
        let (peer, ..) = granted(&mut bench, grant);
        let asked = bench.commands(&peer, line);
        assert_eq!((asked.items, asked.answered), (vec![Ok(item(line))], 0), "{grant:?}");
        assert_eq!(peer.recv(), b"");
    }
}

#[test]
fn a_mail_is_answered_if_it_is_usual_only() {
    for (parameters, is_usual) in [
        ("", true),
        (" SIZE=0", true),
        (" SIZE=1000", true),
        (" size=1000 body=8bitMIME", true),
        (" BODY=7BIT SIZE=00000000000000001000", true),
        (" SIZE=1001", false),
        (" SIZE=000000000000000000001", false),
        (" SIZE=18446744073709551616", false),
        (" SIZE=+1", false),
        (" SIZE=-0", false),
        (" SIZE=1x", false),
        (" SIZE", false),
        (" BODY", false),
        (" BODY=BINARYMIME", false),
        (" BODY=8BIT", false),
        (" AUTH=<>", false),
        (" SIZE=1 SMTPUTF8", false),
        // No command at all.
        (" SIZE=", false),
        (" SIZE=1 SIZE=1", false),
        ("x", false),
    ] {
        let mut bench = Bench::new();
        let (peer, conn, turn) = granted(&mut bench, Grant::Mail);
        let line = format!("MAIL FROM:<me@a.example>{parameters}\r\n");
        peer.send(line.as_bytes());
        if is_usual {
            bench.nothing_happens();
            assert_eq!(peer.recv(), b"250 sender\r\n", "{line}");
            continue;
        }
        let asked = commands(bench.event());
        assert_eq!((asked.items.len(), asked.answered, asked.turn), (1, 0, turn + 1), "{line}");
        assert_eq!(peer.recv(), b"", "{line}");
        bench.reply(conn, asked.turn, "555 no\r\n", 1);
        assert_eq!(peer.recv(), b"555 no\r\n");
        assert_eq!(bench.commands(&peer, RCPT).items, [Ok(item(RCPT))]);
    }
}

#[test]
fn a_mail_whose_path_is_none_is_asked() {
    let too_long = format!("MAIL FROM:<{}@a.example>\r\n", "x".repeat(65));
    for line in
        ["MAIL FROM:<me@a.example\r\n", "MAIL FROM: <>\r\n", "MAIL\r\n", "MAIL FROM:<>\n\r\n", &too_long]
    {
        let mut bench = Bench::new();
        let (peer, ..) = granted(&mut bench, Grant::Mail);
        let asked = bench.commands(&peer, line.as_bytes());
        assert!(matches!(asked.items[..], [Err(_)]), "{line:?}");
        assert_eq!(asked.answered, 0);
    }
}

#[test]
fn commands_that_come_together_are_asked_together() {
    let mut bench = Bench::new();
    bench.recorder.drafts.store(1, Ordering::Relaxed);
    for (grant, octets, count) in [
        (Grant::Mail, &[MAIL, RCPT].concat(), 2),
        (Grant::Mail, &[MAIL, RCPT, DATA].concat(), 3),
        (Grant::Mail, &[b"RSET\r\n", MAIL].concat(), 2),
        (Grant::Data, &[RCPT, DATA].concat(), 2),
    ] {
        let (peer, ..) = granted(&mut bench, grant);
        let asked = bench.commands(&peer, octets);
        assert_eq!((asked.items.len(), asked.answered), (count, 0));
        assert_eq!(peer.recv(), b"");
    }
    // What has only begun to come does not count.
    let (peer, conn, _) = granted(&mut bench, Grant::Mail);
    peer.send(&[MAIL, b"RCPT TO:"].concat());
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"250 sender\r\n");
    let asked = bench.commands(&peer, &[b"<you@b.example>\r\n", DATA].concat());
    assert_eq!((asked.items.len(), asked.answered), (3, 1));
    // What was answered is not to be answered again, nor counted.
    bench.act(reply(conn, asked.turn, "250 recipient\r\n", 1));
    bench.act(take(conn, asked.turn, Draft::default(), 100));
    assert_eq!(peer.recv(), b"250 recipient\r\n354 go\r\n");
}

#[test]
fn what_came_before_the_reply_it_had_to_wait_for_is_asked() {
    for (grant, line) in [(Grant::Mail, MAIL), (Grant::Data, DATA)] {
        let mut bench = Bench::new();
        bench.recorder.drafts.store(1, Ordering::Relaxed);
        let (peer, conn) = bench.session(limits());
        let asked = bench.commands(&peer, b"EHLO a.example\r\n");
        peer.send(line);
        bench.act(granting(conn, asked.turn, "250 hello\r\n", grant));
        assert_eq!(peer.recv(), b"250 hello\r\n");
        let asked = commands(bench.event());
        assert_eq!((asked.items, asked.answered, asked.early), (vec![Ok(item(line))], 0, true));
    }
}

#[test]
fn a_data_is_asked_if_there_is_no_draft_or_its_content_is_here_already() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = granted(&mut bench, Grant::Data);
    let asked = bench.commands(&peer, DATA);
    assert_eq!((asked.items, asked.answered, asked.turn), (vec![Ok(Command::Data)], 0, turn + 1));
    bench.act(take(conn, asked.turn, Draft::default(), 100));
    assert_eq!(peer.recv(), b"354 go\r\n");

    bench.recorder.drafts.store(1, Ordering::Relaxed);
    let (peer, conn, _) = granted(&mut bench, Grant::Data);
    let asked = bench.commands(&peer, b"DATA\r\nx\r\n.\r\n");
    assert_eq!((asked.items, asked.early), (vec![Ok(Command::Data)], true));
    bench.act(take(conn, asked.turn, Draft::default(), 100));
    assert_eq!(peer.recv(), b"354 go\r\n");
    let taken = content(bench.event());
    assert_eq!((taken.draft, taken.octets), (4711, b"x\r\n".to_vec()));
    bench.reply(conn, taken.turn, "250 ok\r\n", 1);
    // A DATA that is none.
    let (peer, ..) = granted(&mut bench, Grant::Data);
    assert!(matches!(bench.commands(&peer, b"DATA now\r\n").items[..], [Err(_)]));
    assert_eq!(bench.recorder.drafts.load(Ordering::Relaxed), 1, "nothing was opened in vain");
}

#[test]
fn content_under_a_grant_is_judged_by_the_standard_limit() {
    let mut bench = Bench::new();
    bench.recorder.drafts.store(1, Ordering::Relaxed);
    let (peer, conn, _) = granted(&mut bench, Grant::Data);
    peer.send(DATA);
    bench.nothing_happens();
    peer.send(&[&[b'x'; 999][..], b"\r\n.\r\nNOOP\r\n"].concat());
    let taken = content(bench.event());
    assert_eq!((taken.status, taken.size), (ContentStatus::TooLarge, 1001));
    bench.reply(conn, taken.turn, "552 no\r\n", 1);
    assert_eq!(peer.recv(), b"354 granted\r\n552 no\r\n");
    assert_eq!(commands(bench.event()).items, [Ok(Command::Noop)]);
}

#[test]
fn an_answered_mail_comes_first_in_the_next_event() {
    for line in [&b"QUIT\r\n"[..], b"RSET\r\n", MAIL, b"EHLO again.example\r\n", DATA, b"XYZZY\r\n"] {
        let mut bench = Bench::new();
        let (peer, conn, turn) = answered(&mut bench);
        let asked = bench.commands(&peer, line);
        assert_eq!((asked.items, asked.answered), (vec![Ok(item(MAIL)), Ok(item(line))], 1));
        assert_eq!((asked.turn, asked.early), (turn + 1, false));
        bench.reply(conn, asked.turn, "250 one answer\r\n", 1);
        assert_eq!(peer.recv(), b"250 one answer\r\n");
        // It is reported once.
        let asked = bench.commands(&peer, b"NOOP\r\n");
        assert_eq!((asked.items, asked.answered), (vec![Ok(Command::Noop)], 0));
    }
    let mut bench = Bench::new();
    let (peer, conn, _) = answered(&mut bench);
    let asked = bench.commands(&peer, b"RCPT\r\nRSET\r\n");
    assert_eq!((asked.items.len(), asked.answered), (3, 1));
    bench.act(reply(conn, asked.turn, "one too many\r\n", 3));
    assert_eq!(closed(&bench.event()), (CloseReason::Error, None));
}

#[test]
fn a_connection_may_end_with_a_mail_that_nobody_is_told_of() {
    let mut bench = Bench::new();
    let (peer, ..) = answered(&mut bench);
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Peer, None));
    let (peer, ..) = answered(&mut bench);
    peer.reset();
    assert_eq!(closed(&bench.event()), (CloseReason::Reset, None));
    let (_peer, conn, _) = answered(&mut bench);
    bench.act(NetAction::Abort { conn });
    assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
    // The command and the end come at once.
    let (peer, ..) = granted(&mut bench, Grant::Mail);
    peer.send(MAIL);
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Peer, None));
    assert_eq!(peer.recv(), b"250 sender\r\n");
    // Whoever gets the name next starts anew.
    let (peer, _) = bench.session(limits());
    assert_eq!(bench.commands(&peer, MAIL).answered, 0);
}

#[test]
fn a_granted_content_that_is_cut_off_is_reported_as_gone() {
    let mut bench = Bench::new();
    bench.recorder.drafts.store(2, Ordering::Relaxed);
    let (peer, conn, turn) = granted(&mut bench, Grant::Data);
    peer.send(DATA);
    bench.nothing_happens();
    peer.send(b"half\r\n.");
    // The turn is the one before, but there is no peer that waits for a command.
    bench.act(last_reply(conn, turn, "421 bye\r\n", 0));
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Peer, Some(GRANTED_DRAFT)));
    assert_eq!(peer.recv(), b"354 granted\r\n");
    let (peer, ..) = granted(&mut bench, Grant::Data);
    peer.send(DATA);
    bench.nothing_happens();
    bench.pass_ms(61_000);
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Idle, Some(GRANTED_DRAFT)));
}

#[test]
fn a_tarpit_holds_back_what_was_granted_with_it() {
    for (grant, line, answer) in
        [(Grant::Mail, MAIL, &b"250 sender\r\n"[..]), (Grant::Data, DATA, b"354 granted\r\n")]
    {
        let mut bench = Bench::new();
        bench.recorder.drafts.store(1, Ordering::Relaxed);
        let (peer, conn) = bench.session(limits());
        let asked = bench.commands(&peer, b"NOOP\r\n");
        let bytes = Bytes::from_static(b"550 slowly\r\n");
        bench.act(NetAction::Reply {
            conn,
            turn: asked.turn,
            bytes,
            answers: 1,
            delay_ms: 5_000,
            close: false,
            grant,
        });
        peer.send(line);
        bench.pass_ms(4_700);
        bench.nothing_happens();
        assert_eq!(peer.recv(), b"");
        bench.pass_ms(600);
        bench.nothing_happens();
        assert_eq!(peer.recv(), [b"550 slowly\r\n", answer].concat());
    }
}

#[test]
fn an_answered_mail_starts_the_idle_clock_anew_and_no_more() {
    let mut bench = Bench::new();
    let (peer, ..) = granted(&mut bench, Grant::Mail);
    bench.pass_ms(50_000);
    peer.send(MAIL);
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"250 sender\r\n");
    bench.pass_ms(59_000);
    assert!(!peer.is_closed());
    bench.pass_ms(2_000);
    assert!(peer.recv().starts_with(b"421 4.4.2 "));
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Idle, None));
}

#[test]
fn whoever_has_an_answered_mail_is_told_that_we_stop() {
    let mut bench = Bench::new();
    bench.recorder.drafts.store(1, Ordering::Relaxed);
    let (mail, ..) = answered(&mut bench);
    let (data, ..) = granted(&mut bench, Grant::Data);
    data.send(DATA);
    bench.nothing_happens();
    bench.net.stop();
    assert!(mail.recv().starts_with(b"421 4.3.2 "));
    assert!(data.recv().starts_with(b"354 granted\r\n421 4.3.2 "));
    let mut ends: Vec<_> = bench.recorder.take().iter().map(closed).collect();
    ends.sort_by_key(|end| end.1);
    assert_eq!(ends, [(CloseReason::Local, None), (CloseReason::Local, Some(GRANTED_DRAFT))]);
    assert_eq!(bench.net.statistics().panics, 0);
}

#[test]
fn a_farewell_of_the_last_turn_reaches_whoever_has_an_answered_mail() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = answered(&mut bench);
    bench.act(last_reply(conn, turn, "421 bye\r\n", 0));
    assert_eq!(peer.recv(), b"421 bye\r\n");
    peer.shutdown_write();
    assert_eq!(closed(&bench.event()), (CloseReason::Local, None));
    // One that has spoken since has its answer coming.
    let (peer, conn, turn) = answered(&mut bench);
    let asked = bench.commands(&peer, RCPT);
    bench.act(last_reply(conn, turn, "421 bye\r\n", 0));
    assert_eq!(peer.recv(), b"");
    assert_eq!(bench.net.statistics().stale_actions, 1);
    bench.act(last_reply(conn, asked.turn, "421 bye\r\n", asked.items.len() as u32 - asked.answered));
    assert_eq!(peer.recv(), b"421 bye\r\n");
    assert!(peer.is_closed());
}

#[test]
fn a_late_farewell_after_granted_answers_or_another_action_of_the_turn_is_dropped() {
    let mut bench = Bench::new();
    let (peer, conn, turn) = answered(&mut bench);
    bench.reply(conn, turn, "250 for the turn before\r\n", 1);
    bench.net.complete(&[(conn, turn, true)]);
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"");
    assert_eq!(bench.net.statistics().stale_actions, 2);
    assert_eq!(bench.commands(&peer, RCPT).answered, 1);
}

#[test]
fn nothing_is_answered_while_the_caller_is_far_behind() {
    let mut bench = Bench::new();
    let (peer, ..) = granted(&mut bench, Grant::Mail);
    bench.recorder.waits_ms.store(3_000, Ordering::Relaxed);
    bench.pass_ms(1_000);
    peer.send(MAIL);
    bench.pass_ms(70_000);
    assert_eq!(peer.recv(), b"");
    bench.recorder.waits_ms.store(0, Ordering::Relaxed);
    bench.pass_ms(1_000);
    bench.nothing_happens();
    assert_eq!(peer.recv(), b"250 sender\r\n");
}

#[test]
fn a_reply_that_is_only_a_part_of_the_answer_grants_nothing_in_the_end() {
    let mut bench = Bench::new();
    let (peer, conn) = bench.session(limits());
    let asked = bench.commands(&peer, b"NOOP\r\nNOOP\r\n");
    bench.act(granting(conn, asked.turn, "250 one\r\n", Grant::Mail));
    bench.reply(conn, asked.turn, "250 two\r\n", 1);
    assert_eq!(peer.recv(), b"250 one\r\n250 two\r\n");
    assert_eq!(bench.commands(&peer, MAIL).answered, 0);
}
