//! Every file of the committed corpus of the fuzzer through the code of its target, without a fuzzer: what once was found stays mended on
//! every machine that can run tests. Also where the seeds of the corpus come from: recorded traffic, and sequences written down here.

// For clippy: helpers of tests are tests.
#![cfg(test)]

#[path = "../../../fuzz/src/lib.rs"]
pub mod fuzz;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;

use hastmon_core::lease::{Ask, Kind as AskKind, Refusal, Release, Verdict, Voters};
use hastmon_core::time::Duration;
use hastmon_core::types::{Role, State};
use hastmon_core::wire::nv::List;
use hastmon_core::wire::peer::{Heard, Hello, Said, Welcome};
use serde_json::Value as Json;

/// Bytes in the whole corpus: it is for changes that a reader can check, not for all that a fuzzer ever kept.
const MAX_CORPUS_BYTES: usize = 200_000;

fn fuzz_directory() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../fuzz"))
}

/// The names and bytes of the files for one target.
fn files(target: &str) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(fuzz_directory().join("corpus").join(target)).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect()
}

#[test]
fn every_file_of_the_corpus_goes_through_its_target() {
    for (target, run) in fuzz::TARGETS {
        let files = files(target);
        assert!(!files.is_empty(), "{target}");
        for (name, bytes) in files {
            // For the message of a panic: output is shown of tests that fail.
            println!("{target}/{name}");
            run(&bytes);
        }
    }
}

#[test]
fn the_corpus_is_small_and_each_target_is_known_to_the_fuzzer_and_has_its_directory() {
    let expected: BTreeSet<String> = fuzz::TARGETS.iter().map(|(target, _)| (*target).to_owned()).collect();
    let manifest = fs::read_to_string(fuzz_directory().join("Cargo.toml")).unwrap();
    let programs = manifest.split("[[bin]]\n").skip(1).map(|part| part.split('"').nth(1).unwrap().to_owned());
    assert_eq!(programs.collect::<BTreeSet<_>>(), expected);
    let directories = fs::read_dir(fuzz_directory().join("corpus")).unwrap();
    let directories = directories.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(directories.collect::<BTreeSet<_>>(), expected);
    let bytes: usize = expected.iter().flat_map(|target| files(target).into_values()).map(|bytes| bytes.len()).sum();
    assert!(bytes <= MAX_CORPUS_BYTES, "{bytes} bytes");
}

#[test]
fn the_seeds_of_the_corpus_are_what_the_recordings_and_the_sequences_here_say() {
    for (target, seeds) in seeds() {
        let files = files(target);
        let written =
            files.iter().filter(|(name, _)| name.starts_with(SEED)).map(|(name, bytes)| (name.clone(), bytes.clone()));
        let same = written.collect::<BTreeMap<_, _>>() == seeds;
        assert!(
            same,
            "{target}: run `cargo test -p hastmon-core --test corpus -- --ignored` and commit what it writes"
        );
    }
}

#[test]
#[ignore = "writes the seeds into the source tree"]
fn write_the_seeds() {
    for (target, seeds) in seeds() {
        let directory = fuzz_directory().join("corpus").join(target);
        fs::create_dir_all(&directory).unwrap();
        for entry in fs::read_dir(&directory).unwrap().map(Result::unwrap) {
            if entry.file_name().to_str().unwrap().starts_with(SEED) {
                fs::remove_file(entry.path()).unwrap();
            }
        }
        for (name, bytes) in seeds {
            fs::write(directory.join(name), bytes).unwrap();
        }
    }
}

/// What the name of a seed begins with; other files are what a fuzzer has found.
const SEED: &str = "seed-";

type Seeds = BTreeMap<&'static str, BTreeMap<String, Vec<u8>>>;

fn seeds() -> Seeds {
    let mut seeds = Seeds::new();
    let mut add = |target: &'static str, name: &str, bytes: Vec<u8>| {
        let known = seeds.entry(target).or_default().insert(format!("{SEED}{name}"), bytes);
        assert!(known.is_none(), "{target} {name}");
    };
    for name in ["nokey", "key-SHA256"] {
        add("config", name, fs::read(core_file(&format!("src/config/recorded/{name}.conf"))).unwrap());
    }
    add("config", "everything", EVERYTHING.into());
    for Message { name, kind, body } in messages() {
        add("nv", &name, body.clone());
        let target = match kind {
            Kind::Request => "request",
            Kind::Session => "session",
            Kind::Reply => "reply",
        };
        if kind == Kind::Request {
            add("daemon", &format!("message-{name}"), heard_by_daemon(&body));
        }
        add(target, &name, body);
    }
    for (name, stream) in streams() {
        add("frame", &name, stream);
    }
    for (name, steps) in DAEMON_SEQUENCES {
        add("daemon", name, steps.concat());
    }
    for (name, steps) in WORKER_SEQUENCES {
        add("worker", name, steps.concat());
    }
    for (name, steps) in LEASE_WORKER_SEQUENCES {
        add("worker", name, [&[WITH_LEASE][..], &steps.concat()].concat());
    }
    for (name, steps) in LEASE_DAEMON_SEQUENCES {
        add("daemon", name, [&[WITH_LEASE][..], &steps.concat()].concat());
    }
    for (name, list) in words_of_nodes() {
        add("peer", name, list.encode());
    }
    add("peer", "record", RECORD.into());
    seeds
}

/// The first byte of a sequence with the lease.
const WITH_LEASE: u8 = 0xfe;

const RECORD: &str = "hastmon vote 1\nepoch 7\nhold_ms 40000\nholder node-a\nsha256 7d8f57d021a699c07bf645089c84993a\n";

/// A worker with the lease: its role, no grant, a small number as its seed; then steps.
const LEASE_WORKER_SEQUENCES: &[(&str, &[&[u8]])] = &[
    ("lease-a-primary-that-wins", &[&[1, 0, 0, 1], WELCOMED, HEARD, &[11, 1, 0, 1, 9], HOOK_OK, HOOK_OK, &[2, 2]]),
    ("lease-a-forced-primary", &[&[1, 2, 0, 1], HOOK_OK, HOOK_OK, &[2, 2, 4, 0, 1], &[15, 0x55, 0]]),
    ("lease-a-secondary-that-stands", &[&[2, 0, 0, 1], WELCOMED, HEARD, &[13, 0], &[11, 1, 0, 1, 9], &[2, 2]]),
    ("lease-a-watchdog-that-complains", &[&[3, 0, 0, 1], WELCOMED, HEARD, &[2, 2, 2, 2], &[13, 4], &[2]]),
];
/// The first connection is up, as that of `b`,
const WELCOMED: &[u8] = &[6, 0, 1, 0];
/// and answers, with a number at its limit.
const HEARD: &[u8] = &[6, 0, 5, 0, 1, 2, 1, 0, 0, 0, 2, 0, 1, 9, 4];

/// A main daemon with the lease: steps.
const LEASE_DAEMON_SEQUENCES: &[(&str, &[&[u8]])] = &[
    ("lease-a-vote", &[&[0, 1], FOUND, HELLO, ASKS, &[10, 1], ASKS, &[2, 2]]),
    ("lease-a-vote-that-is-not-recorded", &[&[0, 1], FOUND, HELLO, ASKS, &[10, 0], ASKS, &[10, 0]]),
    ("lease-a-worker-that-wins", &[&[0, 1], FOUND, &[12, 0, 5, 0, 9, 0, 3, 0, 3, 0, 1], &[2]]),
    ("lease-a-switchover", &[&[0, 1], FOUND, &[14, 0, 1, 0], &[14, 2, 1, 0], &[12, 0, 8, 0], &[2, 2]]),
];
const FOUND: &[u8] = &[10, 1];
/// `b` connects, as primary,
const HELLO: &[u8] = &[3, 1, 0, 1, 1, 100, 0, 0, 0, 0, 0];
/// and asks for a vote of epoch 7.
const ASKS: &[u8] = &[5, 0, 0, 1, 1, 1, 0, 7, 1, 200, 0, 1, 0, 1, 0];

/// Each word that nodes say, with numbers at their limits.
fn words_of_nodes() -> Vec<(&'static str, List)> {
    let voters = Voters::new(["a", "b", "c"].map(String::from));
    let longest = Duration::from_micros(u64::MAX);
    let (node, epoch) = ("b".to_string(), u64::MAX);
    let ask = Ask {
        node: node.clone(),
        kind: AskKind::Vote,
        epoch,
        hold: longest,
        round: 1,
        voters: voters.digest(),
        kept: false,
    };
    let heard = |refused| Heard {
        seq: 1,
        role: Role::Primary,
        priority: i32::MIN,
        state: State::Run,
        verdict: Some(Verdict { round: 1, highest: epoch, refused, kept: false }),
        bound: Some("c".to_string()),
        bound_for: longest,
        epoch,
        voters: voters.digest(),
        in_force: voters.digest(),
        no_fetch: None,
        bound_kept: false,
        waits_for_turn: false,
        pause: None,
    };
    let version = "1.0".to_string();
    let hello = Hello {
        protocols: (1, 1),
        version: version.clone(),
        node: node.clone(),
        resource: "web".to_string(),
        role: Role::Secondary,
        priority: 10,
        voters: voters.clone(),
    };
    let release =
        Release { node: node.clone(), epoch, successor: Some("c".to_string()), reserve: longest, was_held: true };
    let holder = "c".to_string();
    let beat = |seq, ask| {
        let (state, voters) = (State::Stopped, 7);
        Said::Beat { seq, state, voters, ask, shared: None, pause: None, votes_kept: 0 }
    };
    vec![
        ("hello", hello.encode()),
        ("welcome", Welcome { protocol: 1, version, node: node.clone(), voters: voters.clone() }.encode()),
        ("beat", beat(1, None).encode()),
        ("beat-that-asks", beat(u64::MAX, Some(ask)).encode()),
        ("complaint", Said::Complaint { released: true }.encode()),
        ("release", Said::Release(release).encode()),
        ("fenced", Said::Fenced { node, epoch }.encode()),
        ("fetch", Said::Fetch.encode()),
        ("heard-granted", heard(None).encode()),
        ("heard-bound", heard(Some(Refusal::Bound { holder: holder.clone(), left: longest })).encode()),
        ("heard-reserved", heard(Some(Refusal::Reserved { successor: holder, left: longest })).encode()),
        ("heard-waits", heard(Some(Refusal::Waits { left: longest })).encode()),
        ("heard-stale", heard(Some(Refusal::Stale)).encode()),
        ("heard-voters", heard(Some(Refusal::Voters { ours: voters.clone() })).encode()),
        ("heard-not-recorded", heard(Some(Refusal::NotRecorded)).encode()),
        ("heard-leaving", heard(Some(Refusal::Leaving)).encode()),
    ]
}

/// Without a fuzzer, and always the same: enough to notice that a change has broken what the targets hold for true.
#[test]
fn chance_goes_through_the_targets_with_the_lease() {
    const RUNS: u64 = 100;
    for run in 1..=RUNS {
        let mut random = run.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut bytes = vec![WITH_LEASE];
        for _ in 0..400 {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            bytes.extend(random.to_le_bytes());
        }
        // For the message of a panic.
        println!("run {run}");
        fuzz::worker(&bytes);
        fuzz::daemon(&bytes);
    }
}

/// Each parameter in each of its places, and each form of a value.
const EVERYTHING: &str = r#"# A comment
control uds:///var/run/hastmonctl  listen tcp6://[::1]:8458  timeout 1.5s  attempts 3
heartbeat_interval 500ms complaint_count 3 complaint_interval 1m role_on_start init friends 192.0.2.3 tcp://[2001:db8::1]:80
start_timeout 1h stop_timeout 2 status_timeout 10 hook_timeout 0.5m
lease 2500ms fence /off fence_timeout 90 on_stop_failure fence statedir /var/state realtime on max_hooks 4
exec /run
key { algorithm SHA1 secret "hunter2 \"\\" }
on b { control /x listen 192.0.2.2 priority 7 friends c.example.org }
on b.example.org { timeout 2 }
resource "a b\\" {
	key { secret other algorithm RIPEMD160 }
	weight -5 on a { remote none exec "/b c" weight 7 }
	on b { remote tcp4://192.0.2.1 a.example.org:1 role_on_start watchdog }
}
resource all { on a { } }
resource x { on c { remote $ } timout 5 timeout soon
"#;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Request,
    Session,
    Reply,
}

struct Message {
    name: String,
    kind: Kind,
    body: Vec<u8>,
}

fn core_file(name: &str) -> String {
    format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn json(name: &str) -> Json {
    serde_json::from_str(&fs::read_to_string(core_file(&format!("tests/recorded/{name}.json"))).unwrap()).unwrap()
}

fn array(json: &Json) -> &[Json] {
    json.as_array().unwrap()
}

fn bytes_of(message: &Json) -> Vec<u8> {
    let hex = message["hex"].as_str().unwrap();
    (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect()
}

/// The recorded messages, one of each form: without a key, with one, and those that go wrong.
fn messages() -> Vec<Message> {
    let mut found = Vec::new();
    for name in ["nokey", "key-SHA256"] {
        let recording = json(name);
        for message in array(&recording["control"]).iter().flat_map(|call| array(&call["messages"])) {
            let kind = if message["what"] == "request" { Kind::Request } else { Kind::Reply };
            found.push((kind, message.clone()));
        }
        for connection in array(&recording["network"]) {
            for (at, message) in array(&connection["from_client"]).iter().enumerate() {
                found.push((if at == 0 { Kind::Request } else { Kind::Session }, message.clone()));
            }
            for message in array(&connection["from_server"]) {
                let kind = if has(message, "resource0") { Kind::Reply } else { Kind::Session };
                found.push((kind, message.clone()));
            }
        }
    }
    for case in array(&json("errors")["cases"]) {
        found.push((Kind::Request, case["request"].clone()));
        for reply in array(&case["reply"]) {
            let kind = if has(reply, "errmsg") { Kind::Session } else { Kind::Reply };
            found.push((kind, reply.clone()));
        }
    }
    let mut forms = BTreeSet::new();
    found.retain(|(kind, message)| {
        let form: Vec<_> =
            array(&message["fields"]).iter().map(|field| (field[0].to_string(), field[1].to_string())).collect();
        forms.insert((*kind, form))
    });
    let numbered = found.into_iter().enumerate();
    numbered
        .map(|(at, (kind, message))| Message { name: format!("{at:02}"), kind, body: bytes_of(&message)[5..].into() })
        .collect()
}

fn has(message: &Json, name: &str) -> bool {
    array(&message["fields"]).iter().any(|field| field[1] == name)
}

/// What one side says on a recorded connection, with the limit and the pieces that the target asks for first.
fn streams() -> Vec<(String, Vec<u8>)> {
    let mut streams = Vec::new();
    for (at, connection) in array(&json("nokey")["network"]).iter().enumerate() {
        for side in ["from_client", "from_server"] {
            let stream: Vec<u8> = array(&connection[side]).iter().flat_map(bytes_of).collect();
            if array(&connection[side]).len() > 1 {
                streams.push((format!("{at:02}-{side}"), [&[0, 3], &stream[..]].concat()));
            }
        }
    }
    let reply: Vec<u8> = array(&json("nokey")["control"])
        .iter()
        .flat_map(|call| array(&call["messages"]))
        .flat_map(bytes_of)
        .take(3_000)
        .collect();
    streams.push(("control".to_owned(), [&[1, 200], &reply[..]].concat()));
    streams.push(("http".to_owned(), b"\0\0GET / HTTP/1.0\r\n\r\n".to_vec()));
    streams.push(("four-gigabytes".to_owned(), b"\0\0\0\xff\xff\xff\xff".to_vec()));
    streams
}

/// A step of the target `daemon` in which the remote says this.
fn heard_by_daemon(body: &[u8]) -> Vec<u8> {
    let eighths = body.len().div_ceil(8);
    let mut bytes = vec![0, 3, u8::try_from(eighths).unwrap()];
    bytes.extend(body);
    // Zeros may follow the end of a list.
    bytes.resize(3 + eighths * 8, 0);
    bytes.push(0);
    bytes
}

/// 16 random bytes.
const RANDOM: &[u8] = b"0123456789abcdef";

/// Sequences for the target `daemon`, as `fuzz/src/daemon.rs` reads them: whether there is a key, then steps. A step with a request has resource,
/// kind, what belongs to the kind, how and by whom it is signed, who sends it, and random bytes.
const DAEMON_SEQUENCES: &[(&str, &[&[u8]])] = &[
    (
        "a-takeover",
        &[
            &[0],
            COMPLAINT,
            RANDOM,
            COMPLAINT,
            RANDOM,
            COMPLAINT,
            RANDOM,
            &[12, 0, 0],
            &[11, 0],
            &[0, 5],
            COMPLAINT,
            RANDOM,
        ],
    ),
    (
        "a-handshake-in-two-steps",
        &[&[0], HANDSHAKE, RANDOM, TOKEN, RANDOM, COMPLAINT, RANDOM, &[10, 0, 1, 0], &[10, 0, 0, 3, 3, 1, 0, 0]],
    ),
    ("a-handshake-that-waits", &[&[0], &[9, 0, 6, 1, 0], HANDSHAKE, RANDOM, &[12, 0, 0], &[2], HANDSHAKE, RANDOM]),
    (
        "a-handshake-with-a-primary",
        &[&[0], &[4, 1, 0, 0, 0, 0, 0], RANDOM, &[12, 1, 0], &[0, 5], &[4, 1, 0, 0, 0, 0, 0], RANDOM],
    ),
    (
        "signed-requests",
        &[&[1], &[4, 0, 0, 1, 2, 0, 0, 0], RANDOM, &[5, 0, 6, 1, 2, 1, 0, 1], RANDOM, &[6, 0, 4, 2, 1, 0, 1], RANDOM],
    ),
    (
        "role-changes-over-the-network",
        &[&[0], &[4, 0, 6, 1, 0, 0, 0], RANDOM, &[4, 4, 6, 1, 1, 0, 1], RANDOM, &[4, 0, 6, 1, 3], RANDOM, RANDOM, &[1]],
    ),
    ("one-resource-named-often", &[&[0], &[4, 1, 7, 254, 0, 0, 0], RANDOM]),
    (
        "names-that-are-looked-up",
        &[&[0], &[13, 1], &[4, 2, 7, 0, 0, 0, 2], RANDOM, &[13, 3], &[4, 2, 7, 0, 0, 0, 2], RANDOM, &[13, 0, 3]],
    ),
    (
        "reloads",
        &[
            &[0],
            &[14, 1, 0],
            HANDSHAKE,
            RANDOM,
            &[14, 2, 0],
            &[12, 1, 0],
            &[14, 3, 0],
            &[2],
            &[14, 5, 0],
            &[12, 0, 0],
            &[14, 0, 0],
        ],
    ),
    (
        "workers-that-die",
        &[&[0], &[12, 0, 5], &[2], &[12, 0, 4, 1], &[2], &[12, 0, 7], &[0, 4], &[12, 1, 2], &[2], &[15, 0x55]],
    ),
    (
        "reloads-that-are-asked-for-while-one-is-under-way",
        &[
            &[0],
            &[9, 0, 8, 0],
            &[9, 0, 8, 0],
            &[14, 1, 0],
            &[13, 2],
            &[14, 0, 1],
            &[9, 0, 8, 0],
            &[15, 0x55],
            &[14, 0, 0],
        ],
    ),
    (
        "a-handshake-with-a-resource-that-leaves",
        &[&[0], &[14, 1, 0], &[4, 1, 0, 0, 0, 0, 0], RANDOM, &[12, 1, 0], &[0, 6]],
    ),
];

/// The friend complains about the first resource, without a signature.
const COMPLAINT: &[u8] = &[4, 0, 4, 0, 0, 1];
/// The remote makes the first step for the first resource, and the second one with the token that it got.
const HANDSHAKE: &[u8] = &[4, 0, 0, 1, 0, 0, 0];
const TOKEN: &[u8] = &[4, 0, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];

/// Sequences for the target `worker`, as `fuzz/src/worker.rs` reads them: role, role before, remote that is replaced, then steps.
const WORKER_SEQUENCES: &[(&str, &[&[u8]])] = &[
    ("init", &[&[0, 2, 0], HOOK_OK]),
    (
        "a-primary-that-starts",
        &[
            &[1, 1, 0],
            HOOK_OK,
            HOOK_FAILS,
            &[8, 0, 0, 0],
            &[8, 1, 0, 0],
            &[8, 0, 5, 0],
            &[8, 1, 5, 0],
            HOOK_OK,
            HOOK_OK,
            HOOK_OK,
            HOOK_OK,
            &[2],
            &[2],
        ],
    ),
    (
        "a-primary-alone",
        &[
            &[1, 0, 0],
            &[14, 2],
            HOOK_FAILS,
            HOOK_OK,
            HOOK_FAILS,
            HOOK_FAILS,
            HOOK_OK,
            HOOK_FAILS,
            HOOK_OK,
            HOOK_OK,
            &[15, 0x56],
            HOOK_OK,
        ],
    ),
    (
        "a-primary-that-hears-of-another",
        &[&[1, 0, 1], HOOK_OK, &[8, 0, 0, 0], &[8, 0, 3, 0], HOOK_OK, &[2], &[8, 0, 0, 6, 2, 0, 1, b'x'], &[2]],
    ),
    (
        "a-primary-whose-stop-fails",
        &[&[1, 0, 0], HOOK_OK, &[15, 0x55], &[4, 0, 5, 7], HOOK_OK, &[4, 0, 5, 7], &[2], &[2], &[2], HOOK_OK],
    ),
    (
        "a-primary-that-nobody-hears",
        &[&[1, 0, 0], HOOK_OK, &[8, 0, 0, 7, 0, 0], &[8, 0, 0, 7, 1, 0], &[0, 5], &[2], &[2], &[2], HOOK_OK],
    ),
    (
        "a-secondary-that-serves",
        &[
            &[2, 1, 0],
            HOOK_OK,
            &[11, 0],
            &[8, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0],
            HOOK_OK,
            &[13, 0],
            &[11, 1],
            &[2],
            &[2],
            &[2],
            HOOK_OK,
        ],
    ),
    ("a-secondary-whose-status-hangs", &[&[2, 0, 0], &[2], &[2], &[2], &[4, 0, 3], HOOK_OK, &[2], &[15, 0x57]]),
    (
        "a-watchdog-that-complains",
        &[&[3, 0, 0], &[12, 0, 2, 5, 1], &[12, 0, 1, 0, 0, 0], HOOK_OK, &[2], &[12, 0, 1, 3, 1], &[2], &[2]],
    ),
    (
        "settings-that-change",
        &[&[1, 0, 0], &[8, 0, 0, 0], &[14, 3], &[2], &[14, 1], &[14, 4], HOOK_FAILS, &[2], &[14, 0]],
    ),
    (
        "a-last-stop-that-fails-while-notices-wait",
        &[
            &[2, 0, 0],
            CONNECTED_AND_LOST,
            CONNECTED_AND_LOST,
            CONNECTED_AND_LOST,
            CONNECTED_AND_LOST,
            HOOK_OK,
            &[15, 0x57],
            &[2, 2, 2],
            &[4, 0, 5, 7],
            &[4, 0, 5, 7],
        ],
    ),
];
/// The same primary connects to a secondary again and again.
const CONNECTED_AND_LOST: &[u8] = &[11, 0, 11, 0, 11, 0, 11, 0];

const HOOK_OK: &[u8] = &[4, 0, 0];
const HOOK_FAILS: &[u8] = &[4, 0, 3];
