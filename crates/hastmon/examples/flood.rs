//! Floods a daemon on this host with malformed messages, and says what came of it and what became of the daemon's memory. For trying out
//! what SECURITY.md promises; it talks to loopback addresses alone, and stops after a number of messages or a time.
//!
//! `flood TARGET FROM MESSAGES SECONDS [PID]`: to the daemon on TARGET (127.x.y.z:PORT), from the address FROM; with PID, the memory of that
//! process (PSS, as Linux tells it) before, at its highest, and after.
//!
//! Each message goes over a connection of its own, because a daemon closes the one that brings it: recorded messages with some bytes
//! changed, cut off or repeated; random bytes; frames of random content; sizes up to 4 GB; and frames full of the smallest pairs.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, connect, socket_with, sockopt};
use rustix::time::{ClockId, clock_gettime};

/// Connections at once: more than a daemon admits of one address (32, and 4 for each resource), so that its limits are met, too.
const THREADS: usize = 48;
/// A daemon that neither answers nor closes a connection within this time is counted as silent.
const PATIENCE: Duration = Duration::from_secs(10);
/// A daemon waits for the rest of a message that is cut off. It has this time to read what there is, then the connection is reset.
const CUT_OFF: Duration = Duration::from_millis(20);
/// Version and size, before every message.
const HEADER_SIZE: usize = 5;
/// The largest message that a daemon reads, without its header.
const LIMIT: usize = 64 << 10;
/// How often the memory is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

const USAGE: &str = "usage: flood 127.x.y.z:PORT 127.x.y.z MESSAGES SECONDS [PID]";

#[derive(Clone, Copy, Debug)]
struct Plan {
    target: SocketAddrV4,
    from: Ipv4Addr,
    messages: u64,
    seconds: u64,
    pid: Option<u32>,
}

fn parse(arguments: &[String]) -> Option<Plan> {
    let [target, from, messages, seconds, rest @ ..] = arguments else { return None };
    let pid = match rest {
        [] => None,
        [pid] => Some(pid.parse().ok()?),
        _ => return None,
    };
    let target: SocketAddrV4 = target.parse().ok()?;
    let from: Ipv4Addr = from.parse().ok()?;
    let on_this_host = target.ip().is_loopback() && from.is_loopback();
    on_this_host.then_some(Plan { target, from, messages: messages.parse().ok()?, seconds: seconds.parse().ok()?, pid })
}

/// xorshift64*: good enough to hit what nobody thought of, and the same every time.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_F491_4F6C_DD1D)
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }

    fn bytes(&mut self, size: usize) -> Vec<u8> {
        std::iter::repeat_with(|| self.next().to_le_bytes()).flatten().take(size).collect()
    }
}

fn frame(size: usize, body: &[u8]) -> Vec<u8> {
    let size = u32::try_from(size).unwrap_or(u32::MAX).to_le_bytes();
    [&[0], size.as_slice(), body].concat()
}

/// A recorded message that something has happened to. Now and then what comes out is still sound: that is part of the flood.
fn mutate(random: &mut Random, recorded: &[u8]) -> Vec<u8> {
    let mut message = recorded.to_vec();
    for _ in 0..=random.below(8) {
        let at = random.below(message.len());
        match random.below(6) {
            0 => message.truncate(at),
            1 => message.extend_from_within(at..),
            2 => message.splice(at..at, random.bytes(8)).for_each(drop),
            _ => message.iter_mut().skip(at).take(1).for_each(|byte| *byte ^= 1 << random.below(8)),
        }
    }
    message
}

/// As many of the smallest pairs as fit, all with a name of their own: the most work that one message can make.
fn smallest_pairs() -> Vec<u8> {
    let pairs = (0..LIMIT / 22).flat_map(|number| {
        let name = number.to_le_bytes();
        // Type uint8, a name of 6 letters with its NUL, a value of one byte.
        let letters = name.iter().take(3).flat_map(|byte| [b'a' + (byte >> 4), b'a' + (byte & 15)]);
        [2, 7, 1, 0, 0, 0].into_iter().chain(letters).chain([0, 0, 1, 0, 0, 0, 0, 0, 0, 0]).collect::<Vec<u8>>()
    });
    let body: Vec<u8> = pairs.collect();
    frame(body.len(), &body)
}

fn message(random: &mut Random, recorded: &[Vec<u8>]) -> (&'static str, Vec<u8>) {
    match random.below(100) {
        0..45 => {
            let chosen = recorded.get(random.below(recorded.len())).map_or(&[][..], Vec::as_slice);
            ("recorded, changed", mutate(random, chosen))
        }
        45..70 => {
            let size = random.below(600);
            ("random bytes", random.bytes(size))
        }
        70..85 => {
            let size = random.below(2000);
            ("a frame of random bytes", frame(size, &random.bytes(size)))
        }
        85..98 => {
            let announced = [LIMIT + 1, 1 << 20, 1 << 31, u32::MAX as usize];
            let size = announced.get(random.below(announced.len())).copied().unwrap_or(LIMIT + 1);
            ("more than 64 KiB announced", frame(size, &random.bytes(100)))
        }
        _ => ("64 KiB of the smallest pairs", smallest_pairs()),
    }
}

/// Sends one message on a connection of its own: what came of it.
fn send(plan: &Plan, message: &[u8]) -> io::Result<&'static str> {
    let socket = socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // None lingers when it is closed: there are more messages than ports.
    sockopt::set_socket_linger(&socket, Some(Duration::ZERO))?;
    bind(&socket, &SocketAddrV4::new(plan.from, 0))?;
    connect(&socket, &plan.target)?;
    let mut stream = TcpStream::from(socket);
    let cut_off = lacks_a_part(message);
    stream.set_read_timeout(Some(if cut_off { CUT_OFF } else { PATIENCE }))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let sent = stream.write_all(message);
    let mut answer = Vec::new();
    Ok(match stream.read_to_end(&mut answer) {
        _ if !answer.is_empty() => "answered",
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            if cut_off {
                "cut off and reset"
            } else {
                "SILENT"
            }
        }
        Ok(_) if sent.is_ok() => "read and closed",
        Ok(_) | Err(_) => "closed at once",
    })
}

/// Whether a daemon that has read all this waits for more.
fn lacks_a_part(message: &[u8]) -> bool {
    match message.split_first_chunk::<HEADER_SIZE>() {
        None => true,
        Some((&[version, ref size @ ..], body)) => {
            let size = usize::try_from(u32::from_le_bytes(*size)).unwrap_or(usize::MAX);
            version == 0 && size <= LIMIT && size > body.len()
        }
    }
}

fn recorded_messages() -> io::Result<Vec<Vec<u8>>> {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/tests/recorded");
    let mut messages = Vec::new();
    for name in ["nokey.json", "key-SHA256.json", "errors.json"] {
        collect(&serde_json::from_slice(&std::fs::read(dir.join(name))?)?, &mut messages);
    }
    Ok(messages)
}

fn collect(json: &serde_json::Value, messages: &mut Vec<Vec<u8>>) {
    if let Some(hex) = json.get("hex").and_then(serde_json::Value::as_str) {
        let digits = hex.as_bytes().chunks(2).filter_map(|pair| std::str::from_utf8(pair).ok());
        messages.push(digits.filter_map(|pair| u8::from_str_radix(pair, 16).ok()).collect());
    }
    json.as_array().into_iter().flatten().for_each(|inner| collect(inner, messages));
    json.as_object().into_iter().flatten().for_each(|(_, inner)| collect(inner, messages));
}

/// Proportional share of memory in KiB.
fn pss_kib(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    line.split_whitespace().next()?.parse().ok()
}

fn now_ms() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    u64::try_from(now.tv_sec * 1000 + now.tv_nsec / 1_000_000).unwrap_or(0)
}

type Counts = BTreeMap<(&'static str, String), u64>;

/// One thread's part of the flood.
fn run(plan: &Plan, recorded: &[Vec<u8>], seed: u64, sent: &AtomicU64, end_ms: u64, counts: &Mutex<Counts>) {
    let mut random = Random(seed);
    let mut own = Counts::new();
    while now_ms() < end_ms && sent.fetch_add(1, Ordering::Relaxed) < plan.messages {
        let (kind, message) = message(&mut random, recorded);
        let outcome = send(plan, &message).map_or_else(|error| format!("not connected: {error}"), str::to_owned);
        *own.entry((kind, outcome)).or_default() += 1;
    }
    if let Ok(mut counts) = counts.lock() {
        own.into_iter().for_each(|(key, count)| *counts.entry(key).or_default() += count);
    }
}

fn watch_memory(pid: Option<u32>, done: &AtomicBool) -> u64 {
    let mut highest = 0;
    while let Some(pid) = pid.filter(|_| !done.load(Ordering::Relaxed)) {
        highest = highest.max(pss_kib(pid).unwrap_or(0));
        std::thread::park_timeout(LOOK_EVERY);
    }
    highest
}

fn flood(plan: &Plan) -> io::Result<()> {
    let recorded = recorded_messages()?;
    let (sent, done, counts) = (AtomicU64::new(0), AtomicBool::new(false), Mutex::new(Counts::new()));
    let before = plan.pid.and_then(pss_kib);
    let start_ms = now_ms();
    let end_ms = start_ms.saturating_add(plan.seconds.saturating_mul(1000));
    let highest = std::thread::scope(|scope| {
        let watch = scope.spawn(|| watch_memory(plan.pid, &done));
        let senders: Vec<_> = (1..=THREADS as u64)
            .map(|seed| {
                let (recorded, sent, counts) = (&recorded, &sent, &counts);
                scope.spawn(move || run(plan, recorded, seed, sent, end_ms, counts))
            })
            .collect();
        senders.into_iter().for_each(|sender| drop(sender.join()));
        done.store(true, Ordering::Relaxed);
        watch.join().unwrap_or(0)
    });
    let took_ms = now_ms() - start_ms;
    let counts = counts.into_inner().unwrap_or_default();
    for ((kind, outcome), count) in &counts {
        println!("{count:>9}  {kind}: {outcome}");
    }
    let total: u64 = counts.values().sum();
    println!("{total:>9}  messages in {}.{:03} s", took_ms / 1000, took_ms % 1000);
    if let (Some(before), Some(after)) = (before, plan.pid.and_then(pss_kib)) {
        println!("memory of the daemon (PSS): {before} KiB before, {highest} KiB at its highest, {after} KiB after");
    }
    Ok(())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some(plan) = parse(&arguments) else {
        eprintln!("{USAGE}");
        return ExitCode::from(64);
    };
    match flood(&plan) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("flood: {error}");
            ExitCode::FAILURE
        }
    }
}
