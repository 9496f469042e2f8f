//! Strangers and friends who send what makes no sense, or nothing, all the time.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use crate::random::Random;
use crate::support::lab::Lab;
use crate::support::peer::{PORT, Wire, encode, poll_of};
use crate::support::time::pause;

/// Connections that are held open at once: below what a daemon grants one address.
const HELD: usize = 12;

/// Ends with this value at the latest.
pub(crate) struct Garbage {
    over: Arc<AtomicBool>,
    sent: Arc<AtomicUsize>,
    thread: Option<JoinHandle<()>>,
}

/// Whom garbage is sent to, and from where.
struct Targets {
    daemons: Vec<(Ipv4Addr, PathBuf)>,
    sources: Vec<Ipv4Addr>,
}

/// A connection that is held open.
#[expect(dead_code, reason = "held, never read")]
enum Held {
    Network(Wire),
    Control(UnixStream),
}

impl Garbage {
    pub(crate) fn start(lab: &Lab, mut random: Random) -> Self {
        let targets = Targets {
            daemons: ["a", "b", "w"].map(|node| (lab.ip(node), lab.control_socket(node))).into(),
            // x is in nobody's configuration.
            sources: ["a", "b", "w", "x"].map(|node| lab.ip(node)).into(),
        };
        let (over, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let (is_over, count) = (Arc::clone(&over), Arc::clone(&sent));
        let thread = std::thread::spawn(move || {
            let mut held = Vec::new();
            while !is_over.load(Ordering::Relaxed) {
                held.extend(send(&targets, &mut random));
                count.fetch_add(1, Ordering::Relaxed);
                if held.len() > HELD {
                    drop(held.swap_remove(random.below(HELD)));
                }
                pause(random.ms(20, 200));
            }
        });
        Self { over, sent, thread: Some(thread) }
    }

    /// Ends it: how many connections there were.
    pub(crate) fn end(mut self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        self.thread.take().into_iter().for_each(|thread| thread.join().expect("nothing to fail in it"));
        self.sent.load(Ordering::Relaxed)
    }
}

impl Drop for Garbage {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

/// One connection; given back when it is to be held open. That a daemon is away or hangs up is no news.
fn send(targets: &Targets, random: &mut Random) -> Option<Held> {
    let (ip, control) = random.pick(&targets.daemons);
    let message = match random.below(6) {
        0 => Vec::new(),
        1 => {
            let count = 1 + random.below(200);
            random.bytes(count)
        }
        // Says that four gigabytes follow.
        2 => vec![0, 0xff, 0xff, 0xff, 0xff],
        // A version that nobody has.
        3 => vec![77, 8, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8],
        // Says more than it sends.
        4 => encode(&poll_of("res"))[..9].to_vec(),
        _ => {
            let mut message = encode(&poll_of("res"));
            let at = random.below(message.len());
            message[at] ^= 1 << random.below(8);
            message
        }
    };
    let held = if random.below(4) == 0 {
        let mut stream = UnixStream::connect(control).ok()?;
        let _ = stream.write_all(&message);
        Held::Control(stream)
    } else {
        let mut wire = Wire::connect(random.pick(&targets.sources), std::net::SocketAddrV4::new(ip, PORT)).ok()?;
        wire.send(&message);
        Held::Network(wire)
    };
    (random.below(2) == 0).then_some(held)
}
