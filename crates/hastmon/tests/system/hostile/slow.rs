//! Peers that are silent, slow, deaf or rude, many at once, and what they cost: no late heartbeat, no failover, no lost session.
//!
//! How late heartbeats are is measured by a peer of its own, and printed. On a machine that has more to do only bounds that are wide are
//! asserted; for figures: `HASTMON_SIEGE_SECONDS=60 cargo test -p hastmon --test system slow:: -- --nocapture --test-threads=1`

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::sockopt;
use rustix::process::Signal;

use super::{AT_ONCE, assert_undisturbed, closes_within, history, knock, lines, wait_line};
use crate::support::lab::{Lab, Plan};
use crate::support::peer::{Original, Received, SECONDARY, STOPPED, encode, poll_of};
use crate::support::process;
use crate::support::time::{now_ns, pause, seconds, wait_for};

/// How long a siege lasts, in seconds, unless this says otherwise.
const SECONDS: &str = "HASTMON_SIEGE_SECONDS";
const STANDARD_SECONDS: u64 = 8;

/// Connections to each daemon, together from a stranger and from two addresses that are known.
const CONNECTIONS: usize = 200;
/// How often each of them does something.
const STEP: Duration = Duration::from_millis(100);

const HEARTBEAT: Duration = Duration::from_secs(2);

/// What one of many connections does at each step. One that returns `None` is over, and followed by another.
type Manner = fn(TcpStream, usize) -> Option<TcpStream>;

fn is_open(stream: &mut TcpStream) -> bool {
    !matches!(stream.read(&mut [0; 1]), Ok(0)) && stream.take_error().is_ok_and(|error| error.is_none())
}

fn silent(mut stream: TcpStream, _: usize) -> Option<TcpStream> {
    is_open(&mut stream).then_some(stream)
}

fn a_byte_a_second(mut stream: TcpStream, step: usize) -> Option<TcpStream> {
    // The header of a message of 64 KiB, and the rest of it.
    let sent = !step.is_multiple_of(10) || stream.write_all(&[u8::from(step == 30)]).is_ok();
    (sent && is_open(&mut stream)).then_some(stream)
}

fn deaf(mut stream: TcpStream, step: usize) -> Option<TcpStream> {
    if step == 0 {
        let _ = sockopt::set_socket_recv_buffer_size(&stream, 1);
        stream.write_all(&encode(&poll_of("res"))).ok()?;
    }
    (step < 80).then_some(stream)
}

fn resetting(mut stream: TcpStream, step: usize) -> Option<TcpStream> {
    if step == 0 {
        let _ = stream.write_all(encode(&poll_of("res")).get(..20)?);
        return Some(stream);
    }
    let _ = sockopt::set_socket_linger(&stream, Some(Duration::ZERO));
    None
}

/// Many connections that are kept up until this is dropped.
struct Siege {
    over: Arc<AtomicBool>,
    made: Arc<AtomicUsize>,
    threads: Vec<JoinHandle<()>>,
}

impl Siege {
    fn start(lab: &Lab, manner: Manner) -> Self {
        let (over, made) = (Arc::<AtomicBool>::default(), Arc::<AtomicUsize>::default());
        let mut threads = Vec::new();
        for (to, known) in [("a", ["b", "w"]), ("b", ["a", "w"]), ("w", ["a", "b"])] {
            // Of these, w knows the remotes alone.
            for from in [lab.ip("x"), lab.ip(known[0]), lab.ip(known[1])] {
                let (over, made, to) = (Arc::clone(&over), Arc::clone(&made), lab.listens(to));
                threads.push(std::thread::spawn(move || besiege(from, to, manner, &over, &made)));
            }
        }
        Self { over, made, threads }
    }
}

impl Drop for Siege {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        self.threads.drain(..).for_each(|thread| drop(thread.join()));
    }
}

fn besiege(from: Ipv4Addr, to: SocketAddrV4, manner: Manner, over: &AtomicBool, made: &AtomicUsize) {
    let mut open: Vec<(Option<TcpStream>, usize)> = Vec::new();
    open.resize_with(CONNECTIONS / 3 + 1, || (None, 0));
    while !over.load(Ordering::Relaxed) {
        for (stream, step) in &mut open {
            let current = stream.take().unwrap_or_else(|| {
                *step = 0;
                made.fetch_add(1, Ordering::Relaxed);
                let stream = knock(from, to);
                stream.set_nonblocking(true).unwrap();
                stream
            });
            *stream = manner(current, *step);
            *step += 1;
        }
        pause(STEP);
    }
}

/// a is primary, b secondary, w watches; c is a secondary that is not ours and notes when it hears of a.
fn watched_cluster() -> (Lab, Original) {
    let plan = Plan::new(&["a", "b", "w", "c"]).set("heartbeat_interval", "2").set("timeout", "5");
    let lab = plan.loopback();
    let c = Original::listen(lab.ip("c"), SECONDARY, STOPPED, 2, None);
    for node in ["a", "b", "w"] {
        lab.start(node);
    }
    lab.role("b", "secondary");
    lab.role("a", "primary");
    lab.wait_status("a", "primary", "run");
    lab.role("w", "watchdog");
    let connected = |node: &str, count: usize| {
        let remotes = lab.res(node).remotes;
        remotes.iter().filter(|(_, state)| state.as_deref() == Some("connected")).count() == count
    };
    wait_for("all are connected", || connected("a", 2) && connected("b", 1));
    lab.wait_status("w", "watchdog", "run");
    (lab, c)
}

/// The greatest distance between two moments that follow each other, beyond a heartbeat.
fn latest(times: &[u64]) -> f64 {
    let distances = times.windows(2).map(|two| two[1] - two[0]);
    seconds(distances.max().unwrap_or(0)) - HEARTBEAT.as_secs_f64()
}

fn withstands(what: &str, manner: Manner) {
    let (lab, c) = watched_cluster();
    let before = history(&lab);
    let descriptors = process::descriptors(lab.pid("a")).len();
    let length = std::env::var(SECONDS).ok().and_then(|text| text.parse().ok()).unwrap_or(STANDARD_SECONDS);
    let start = now_ns();
    let siege = Siege::start(&lab, manner);
    let mut slowest = 0;
    while now_ns() - start < length * 1_000_000_000 {
        for node in ["a", "b"] {
            let asked = now_ns();
            assert_ne!(lab.res(node).role, "", "{node} answers");
            slowest = slowest.max(now_ns() - asked);
        }
        pause(Duration::from_millis(200));
    }
    let made = siege.made.load(Ordering::Relaxed);
    drop(siege);
    let end = now_ns();
    // One more, so that a heartbeat that is late at the end counts, too.
    let heard = |from: u64| c.those(Received::is_heartbeat).into_iter().map(|m| m.at_ns).filter(move |at| *at >= from);
    wait_for("a heartbeat after the siege", || heard(end).next().is_some());
    let heartbeats: Vec<u64> = heard(start - 2_500_000_000).collect();
    let is_status = |event: &crate::support::events::Event| event.node == "a" && event.what == "status";
    let checks: Vec<u64> = lab.events().iter().filter(|event| is_status(event)).map(|event| event.at_ns).collect();
    let checks: Vec<u64> = checks.into_iter().filter(|at| *at >= start).collect();
    println!(
        "{what}: {made} connections in {:.0} s; of {} heartbeats of {HEARTBEAT:?} the latest was {:.3} s late, \
         of {} calls of the script {:.2} s; the slowest status took {:.3} s",
        seconds(end - start),
        heartbeats.len(),
        latest(&heartbeats),
        checks.len(),
        latest(&checks),
        seconds(slowest)
    );
    assert!(latest(&heartbeats) < 1.5, "a heartbeat was {:.3} s late", latest(&heartbeats));
    assert!(slowest < 5_000_000_000, "status took {:.1} s", seconds(slowest));
    let roles: Vec<String> = ["a", "b", "w"].map(|node| lab.res(node).role).into();
    assert_eq!(roles, ["primary", "secondary", "watchdog"]);
    assert_undisturbed(&lab, &before);
    wait_for("nothing is left of it", || process::descriptors(lab.pid("a")).len() <= descriptors + 1);
}

#[test]
fn two_hundred_connections_that_say_nothing_cost_nothing() {
    withstands("silent", silent);
}

#[test]
fn two_hundred_peers_that_send_a_byte_a_second_cost_nothing() {
    withstands("a byte a second", a_byte_a_second);
}

#[test]
fn two_hundred_peers_that_never_read_their_answers_cost_nothing() {
    withstands("deaf", deaf);
}

#[test]
fn two_hundred_peers_that_reset_their_connections_cost_nothing() {
    withstands("resetting", resetting);
}

#[test]
fn a_frozen_secondary_is_noticed_by_time_while_its_kernel_is_kind() {
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.run_standard();
    let start = now_ns();
    for pid in lab.tree("b") {
        process::signal(pid, Signal::STOP);
    }
    // It still takes connections, and keeps them.
    let kept = knock(lab.ip("a"), lab.listens("b"));
    wait_line(&lab, "a", &format!("connection to {} lost: no answer for 2s", lab.address("b")));
    assert!(seconds(now_ns() - start) < 10.0, "after {:.1} s", seconds(now_ns() - start));
    wait_for("w sees it, too", || {
        lab.res("w").remotes.iter().any(|(address, state)| {
            *address == lab.address("b") && state.as_deref().is_some_and(|state| state.ends_with("/unknown"))
        })
    });
    assert!(!closes_within(&kept, Duration::from_millis(1)), "nothing but time has told");
    for pid in lab.tree("b") {
        process::signal(pid, Signal::CONT);
    }
    wait_for("they are connected again", || lab.res("a").remotes[0].1.as_deref() == Some("connected"));
    assert_eq!((lab.count("a", "start res"), lab.count("a", "stop res")), (1, 0));
}

#[test]
fn a_primary_that_stops_in_the_middle_of_a_heartbeat_is_lost_by_time() {
    use crate::support::peer::{RUN, Session};
    let lab = Plan::new(&["a", "b", "w"]).loopback();
    lab.start("b");
    lab.role("b", "secondary");
    let mut session = Session::open(lab.ip("a"), lab.listens("b"), "res", 0, None).unwrap();
    assert!(session.heartbeat(RUN).is_some());
    session.send_part(RUN, 20);
    assert!(session.ends());
    wait_line(&lab, "b", "lost: no heartbeat for 2s");
    assert_eq!(lines(&lab, "b", "taking over"), Vec::<String>::new());
    assert!(closes_within(&knock(lab.ip("x"), lab.listens("b")), AT_ONCE));
}
