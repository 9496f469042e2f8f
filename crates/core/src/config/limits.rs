//! The defaults of the configuration, and its limits with their reasons. Decides nothing else.

use super::StopFailure;
use crate::time::Duration;
use crate::types::Role;

/// The path of the control socket.
pub const DEFAULT_CONTROL: &str = "/var/run/hastmonctl";
/// How long a peer may take to answer.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// How many starts in vain end in giving up.
pub const DEFAULT_ATTEMPTS: u32 = 5;
/// The time between two heartbeats.
pub const DEFAULT_HEARTBEAT_INTERVAL: Duration = Duration::from_secs(10);
/// How many complaints a secondary bears.
pub const DEFAULT_COMPLAINT_COUNT: u32 = 3;
/// How long a complaint counts.
pub const DEFAULT_COMPLAINT_INTERVAL: Duration = Duration::from_secs(60);
/// The priority; of two primaries the one with the lower number stays.
pub const DEFAULT_PRIORITY: i32 = 100;
/// How many resources may be on their way to run on a node at once. A `start` is mostly one busy process and a disk: this many keep the cores
/// of a common server busy, and leave it the time to renew the leases of what runs. 1,000 resources that start in 1 s each run after about 1 min.
pub const DEFAULT_MAX_HOOKS: u32 = 16;
/// The weight: those of a higher one are started first.
pub const DEFAULT_WEIGHT: i32 = 0;
/// The role at the start of the daemon.
pub const DEFAULT_ROLE_ON_START: Role = Role::Init;
/// The time limit of the `start` hook.
pub const DEFAULT_START_TIMEOUT: Duration = Duration::from_secs(60);
/// The time limit of the `status` hook.
pub const DEFAULT_STATUS_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of each of the other hooks.
pub const DEFAULT_HOOK_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit of the `fence` script: a power switch may take its time.
pub const DEFAULT_FENCE_TIMEOUT: Duration = Duration::from_secs(60);
/// What follows a `stop` that failed.
pub const DEFAULT_ON_STOP_FAILURE: StopFailure = StopFailure::Log;
/// The directory of what must outlive the daemon.
pub const DEFAULT_STATEDIR: &str = if cfg!(target_os = "freebsd") { "/var/db/hastmon" } else { "/var/lib/hastmon" };
/// How much the history of events may take on the disk. An event takes 300 to 400 bytes, a failover some tens of events: this holds about
/// 45,000, months of a cluster that is well, and the first hours of one that flaps.
pub const DEFAULT_HISTORY_BYTES: u64 = 16 << 20;

/// The smallest history that is one: a few failovers.
pub const MIN_HISTORY_BYTES: u64 = 64 << 10;
/// Tens of millions of events; more is a slip of the unit.
pub const MAX_HISTORY_BYTES: u64 = 16 << 30;
/// The longest file, in bytes: the dump of 10,000 resources fits, and what is longer is some other file.
pub const MAX_FILE_LEN: usize = 8 << 20;
/// Each resource may cost a process: more do not fit on one machine.
pub const MAX_RESOURCES: usize = 10_000;
/// As many as there may be resources: none waits for its turn.
pub const MAX_MAX_HOOKS: u32 = 10_000;
/// More than there are resources to put in order, on either side of 0.
pub const MAX_WEIGHT: i32 = 1_000_000;
/// Each remote costs connections on every heartbeat.
pub const MAX_REMOTES: usize = 64;
/// A node and all its remotes.
pub const MAX_NODES: usize = MAX_REMOTES + 1;
/// Each friend is looked up by name again and again, and compared with every caller.
pub const MAX_FRIENDS: usize = 256;
/// The longest name, in bytes: the tables of nodes and resources stay readable, and it fits a string of protocol 0.
pub const MAX_NAME_LEN: usize = 255;
/// The shortest length of time: what the daemon's timers resolve.
pub const MIN_DURATION: Duration = Duration::from_millis(1);
/// The shortest heartbeat_interval: each heartbeat runs `status`, and a process needs about this long to start and end.
pub const MIN_HEARTBEAT_INTERVAL: Duration = Duration::from_millis(5);
/// The shortest lease, in heartbeats: it is renewed at each of them, and one that is late must not end it.
pub const MIN_LEASE_HEARTBEATS: u32 = 2;
/// The longest length of time, 30 days: a longer one is a slip of the unit. In seconds it fits the int32 of protocol 0.
pub const MAX_DURATION: Duration = Duration::from_secs(30 * 24 * 3600);
/// Enough to mean "for ever"; it fits the int32 of protocol 0.
pub const MAX_ATTEMPTS: u32 = 1_000_000;
/// A secondary remembers the time of each complaint up to this count.
pub const MAX_COMPLAINT_COUNT: u32 = 10_000;
/// The longest path that every system can open, in bytes: PATH_MAX of FreeBSD without its NUL.
pub(super) const MAX_PATH_LEN: usize = 1023;
/// The longest path of a socket, in bytes: `sun_path` of FreeBSD without its NUL.
pub(super) const MAX_SOCKET_PATH_LEN: usize = 103;
