//! A daemon among people who mean it no good: strangers, peers that are silent, slow or flood it, and readers of secrets.

mod callers;
mod control;
mod names;
mod secrets;
mod slow;

use std::io::{ErrorKind, Read};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with};

use crate::support::lab::Lab;
use crate::support::time::{now_ns, wait_for};

/// Connections of one address at once, with one resource.
const PER_ADDRESS: usize = 32 + 4;
/// Connections of all addresses at once, with one resource.
const OF_ALL: usize = 256 + 8;
/// How long a caller has for its first message.
const TALK_TIME: Duration = Duration::from_secs(5);
/// Long enough for a busy machine to close a connection "at once", and shorter than anything that is waited for.
const AT_ONCE: Duration = Duration::from_secs(4);

/// A connection from one address of this host to another's port.
fn knock(from: Ipv4Addr, to: SocketAddrV4) -> TcpStream {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).unwrap();
    bind(&socket, &SocketAddrV4::new(from, 0)).unwrap();
    connect(&socket, &to).unwrap();
    TcpStream::from(socket)
}

/// Whether the other side closes the connection within some time, whatever it says before.
fn closes_within(mut stream: &TcpStream, span: Duration) -> bool {
    let end = now_ns() + u64::try_from(span.as_nanos()).unwrap();
    loop {
        let left = Duration::from_nanos(end.saturating_sub(now_ns())).max(Duration::from_millis(1));
        stream.set_read_timeout(Some(left)).unwrap();
        match stream.read(&mut [0; 4096]) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return false,
            // A read with a time limit is not begun again by itself after the machine (or somebody) has stopped this process for a while.
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return true,
        }
    }
}

/// An address of the laboratory that no node has.
fn address(lab: &Lab, last: u8) -> Ipv4Addr {
    let [first, second, third, _] = lab.ip("a").octets();
    Ipv4Addr::new(first, second, third, last)
}

/// Everything that the script was told, but for what is told again and again. It stays the same as long as nothing happens to a cluster: no
/// lost connection, no change of a role, no start and no stop.
fn history(lab: &Lab) -> Vec<String> {
    let events = lab.events().into_iter();
    events
        .filter(|event| !matches!(event.what.as_str(), "status" | "complain"))
        .map(|event| event.node.clone() + " " + &event.call())
        .collect()
}

/// Panics when anything has happened to the cluster since `before`.
#[track_caller]
fn assert_undisturbed(lab: &Lab, before: &[String]) {
    let now = history(lab);
    assert_eq!(now.get(before.len()..), Some(&[][..]), "something has happened");
}

/// The lines of a node's log that contain a text.
fn lines(lab: &Lab, node: &str, text: &str) -> Vec<String> {
    lab.log_text(node).lines().filter(|line| line.contains(text)).map(str::to_owned).collect()
}

/// Waits for a line of a node's log.
#[track_caller]
fn wait_line(lab: &Lab, node: &str, text: &str) {
    wait_for(&format!("{node} logs {text:?}"), || !lines(lab, node, text).is_empty());
}

/// Proportional share of memory of a process, in KiB.
fn pss_kib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
