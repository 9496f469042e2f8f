//! Who gets in, and how far: strangers, and the limits on those who are known.

use std::io::Write;
use std::net::TcpStream;
use std::time::Duration;

use super::{
    AT_ONCE, OF_ALL, PER_ADDRESS, TALK_TIME, address, assert_undisturbed, closes_within, history, knock, lines,
    pss_kib, wait_line,
};
use crate::support::lab::{Lab, Plan};
use crate::support::peer::{self, RUN, STOPPED, Session, Value, Wire, decode, encode, fields, get, poll_of};
use crate::support::time::{PATIENCE, now_ns, pause, seconds, stays, wait_for, wait_some_within};

/// Nodes a and b, connected; w and v are known and silent.
fn connected_pair() -> Lab {
    let lab = Plan::new(&["a", "b", "w", "v"]).loopback();
    for node in ["a", "b"] {
        lab.start(node);
    }
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    wait_for("a and b are connected", || {
        ["a", "b"].iter().all(|node| lab.res(node).remotes[0].1.as_deref() == Some("connected"))
    });
    lab
}

/// Many who knock, one after the other, and say nothing.
fn crowd(lab: &Lab, lasts: impl IntoIterator<Item = u8>, count: usize) -> Vec<(usize, TcpStream)> {
    let to = lab.listens("a");
    let addresses: Vec<_> = lasts.into_iter().map(|last| address(lab, last)).collect();
    (0..count).zip(addresses.iter().cycle()).map(|(number, from)| (number, knock(*from, to))).collect()
}

/// The numbers of those in a crowd who are sent away at once.
fn sent_away(crowd: &[(usize, TcpStream)]) -> Vec<usize> {
    if let Some((_, newest)) = crowd.last() {
        closes_within(newest, AT_ONCE);
    }
    let gone = crowd.iter().filter(|(_, stream)| closes_within(stream, Duration::from_millis(1)));
    gone.map(|(number, _)| *number).collect()
}

fn last_of(lab: &Lab, node: &str) -> u8 {
    lab.ip(node).octets()[3]
}

#[test]
fn a_stranger_is_closed_before_a_byte_is_read() {
    let lab = connected_pair();
    let before = history(&lab);
    for _ in 0..3 {
        // Whoever waits for a byte to read would still be waiting.
        assert!(closes_within(&knock(lab.ip("x"), lab.listens("a")), AT_ONCE), "a stranger who says nothing");
    }
    let answers = peer::ask(lab.ip("x"), lab.listens("a"), &encode(&poll_of("res")));
    assert_eq!(answers, Vec::<Vec<u8>>::new(), "a stranger who asks as a friend does");
    let told = format!("refused {}: it is in no friends and no remote", lab.ip("x"));
    wait_line(&lab, "a", &told);
    assert_undisturbed(&lab, &before);
    assert_eq!(lines(&lab, "a", &told).len(), 1, "the same four times is told once, and counted");
}

#[test]
fn a_message_of_more_than_64_kib_is_refused_by_its_announcement() {
    let lab = connected_pair();
    let before = history(&lab);
    let (w, a) = (lab.ip("w"), lab.listens("a"));
    let poll = encode(&poll_of("res"));
    let (head, body) = poll.split_at(5);
    let announced = |size: u32, body: &[u8]| [&head[..1], size.to_le_bytes().as_slice(), body].concat();

    let mut whole = body.to_vec();
    whole.resize(64 << 10, 0);
    let answer = peer::ask(w, a, &announced(64 << 10, &whole));
    assert!(answer.first().is_some_and(|answer| get(&decode(answer), "role0").is_some()), "64 KiB are allowed");

    let memory = pss_kib(lab.pid("a"));
    for size in [(64 << 10) + 1, 1 << 31, u32::MAX - 1, u32::MAX] {
        let callers: Vec<TcpStream> = (0..4).map(|_| knock(w, a)).collect();
        for mut caller in &callers {
            caller.write_all(&announced(size, &[])).unwrap();
        }
        assert!(callers.iter().all(|caller| closes_within(caller, AT_ONCE)), "{size} bytes announced");
        wait_line(&lab, "a", &format!("refused {w}: a message of {size} bytes"));
    }
    let grown = pss_kib(lab.pid("a")).saturating_sub(memory);
    assert!(grown < 2048, "its memory has grown by {grown} KiB");
    assert_undisturbed(&lab, &before);
}

#[test]
fn of_too_many_connections_of_one_address_the_newest_lose_and_nobody_else_does() {
    let lab = connected_pair();
    let before = history(&lab);
    let crowd = crowd(&lab, [last_of(&lab, "w")], PER_ADDRESS + 14);
    assert_eq!(sent_away(&crowd), Vec::from_iter(PER_ADDRESS..PER_ADDRESS + 14), "those who came last");
    let why = format!("refused {}: more than {PER_ADDRESS} connections of it", lab.ip("w"));
    wait_line(&lab, "a", &why);
    assert!(peer::poll(lab.ip("v"), lab.listens("a"), "res", None).is_some(), "another address");
    // They have had their time, and are not missed.
    assert!(crowd.iter().all(|(_, stream)| closes_within(stream, TALK_TIME * 3)));
    assert!(peer::poll(lab.ip("w"), lab.listens("a"), "res", None).is_some(), "there is room again");
    assert_eq!((lab.res("a").role.as_str(), lab.res("b").role.as_str()), ("primary", "secondary"));
    assert_undisturbed(&lab, &before);
}

#[test]
fn of_too_many_connections_in_all_the_newest_lose_and_the_administrator_gets_in() {
    let lab = Plan::new(&["a", "b"]).loopback();
    let strangers: Vec<String> = (100..110).map(|last| address(&lab, last).to_string()).collect();
    lab.write_config(&format!("friends {}\n{}", strangers.join(" "), lab.standard_config()));
    lab.run_standard();
    let before = history(&lab);
    let crowd = crowd(&lab, 100..110, OF_ALL + 20);
    assert_eq!(sent_away(&crowd), Vec::from_iter(OF_ALL..OF_ALL + 20), "those who came last");
    wait_line(&lab, "a", &format!("or {OF_ALL} of all"));
    assert_eq!(lab.res("a").role, "primary");
    stays(Duration::from_secs(2), "the session goes on", || lab.res("b").remotes[0].1.as_deref() == Some("connected"));
    assert_undisturbed(&lab, &before);
}

#[test]
fn a_first_message_has_five_seconds_however_slowly_it_comes() {
    let lab = connected_pair();
    let before = history(&lab);
    let (w, a) = (lab.ip("w"), lab.listens("a"));
    let start = now_ns();
    let silent = knock(w, a);
    let mut slow = knock(w, a);
    let message = encode(&poll_of("res"));
    let mut slow_ended = None;
    for byte in message.iter().take(20) {
        let _ = slow.write_all(&[*byte]);
        if closes_within(&slow, Duration::from_secs(1)) {
            slow_ended = Some(now_ns() - start);
            break;
        }
    }
    assert!(closes_within(&silent, AT_ONCE), "the silent one");
    let lasted = seconds(slow_ended.expect("the slow one is sent away"));
    // Not before its time; how long after it a busy machine gets there is no matter.
    assert!(lasted >= 4.0, "a byte a second was heard for {lasted:.1} s");
    wait_line(&lab, "a", &format!("refused {w}: no whole message for {TALK_TIME:?}"));
    assert_undisturbed(&lab, &before);
}

#[test]
fn unfinished_handshakes_harm_neither_the_session_nor_other_remotes() {
    let lab = Plan::new(&["a", "b", "c"]).loopback();
    lab.start("a");
    lab.role("a", "secondary");
    lab.wait_status("a", "secondary", "stopped");
    let (b, c, a) = (lab.ip("b"), lab.ip("c"), lab.listens("a"));
    let mut session = Session::open(b, a, "res", 0, None).unwrap();
    assert!(session.heartbeat(RUN).is_some());
    let greeting = encode(&fields([("resource", Value::Text("res".into())), ("priority", Value::I32(0))]));
    let mut unfinished: Vec<Wire> = (0..9).map(|_| Wire::connect(b, a).unwrap()).collect();
    let answers: Vec<Vec<u8>> = unfinished
        .iter_mut()
        .map(|wire| {
            wire.send(&greeting);
            wire.receive().expect("an answer")
        })
        .collect();
    let (newest, others) = answers.split_last().unwrap();
    assert!(others.iter().all(|answer| get(&decode(answer), "token").is_some()));
    assert!(get(&decode(newest), "errmsg").is_some(), "the ninth is sent away");
    assert!(session.heartbeat(RUN).is_some(), "the session of the same address goes on");
    // Half a handshake lasts as long as `timeout`.
    let start = now_ns();
    for wire in unfinished.iter_mut().take(8) {
        assert_eq!(wire.receive(), None);
        assert!(session.heartbeat(RUN).is_some());
    }
    assert!(now_ns() - start < 10_000_000_000);
    assert_eq!(lines(&lab, "a", "connection to").len(), 0, "the session was never lost");
    assert!(Session::open(c, a, "res", 0, None).unwrap().heartbeat(STOPPED).is_some());
}

#[test]
fn a_flood_of_the_same_refusal_is_a_line_a_minute_with_a_count() {
    const COUNT: usize = 400;
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("a");
    let (w, a) = (lab.ip("w"), lab.listens("a"));
    for _ in 0..COUNT {
        let mut wire = Wire::connect(w, a).unwrap();
        wire.send(b"GET / HTTP/1.0\r\n\r\n");
        assert_eq!(wire.receive(), None);
    }
    // Nothing else happens, not even a heartbeat: the count of the last ones waits for nobody.
    let told = || -> (usize, usize) {
        let lines = lines(&lab, "a", &format!("refused {w}: "));
        let more = |line: &String| line.split_once("(and ")?.1.split(' ').next()?.parse::<usize>().ok();
        (lines.len(), lines.iter().map(|line| 1 + more(line).unwrap_or(0)).sum())
    };
    wait_some_within(PATIENCE * 2, "every one is counted", || (told().1 == COUNT).then_some(()));
    assert!((2..10).contains(&told().0), "{} lines", told().0);
    assert_eq!(lab.res("a").role, "init");
}

#[test]
fn a_worker_that_is_stuck_hears_of_its_end_whatever_callers_have_sent_it_meanwhile() {
    let lab = connected_pair();
    let worker = lab.worker("b", "hastmon: res (secondary)").unwrap();
    crate::support::process::signal(worker, rustix::process::Signal::STOP);
    for _ in 0..300 {
        peer::complain(lab.ip("w"), lab.listens("b"), "res", None);
    }
    assert_eq!(lab.res("b").role, "secondary", "the primary is connected, as far as b knows");
    lab.role("b", "init");
    pause(Duration::from_millis(500));
    crate::support::process::signal(worker, rustix::process::Signal::CONT);
    wait_for("the worker has ended", || !crate::support::process::alive(worker));
    lab.wait_call("b", "role res secondary init", 1);
    assert_eq!(lines(&lab, "b", "would miss what it must know").len(), 0, "there was a place for it");
    assert!(lines(&lab, "b", "complaint").len() < 60, "and the log is no longer for it");
}
