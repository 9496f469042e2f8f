//! A secret is where it is used and nowhere else: not in the log, not in what the daemon shows, not in any list of processes, and in its
//! memory once.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use super::{lines, wait_line};
use crate::support::lab::{Lab, Plan};
use crate::support::peer::{self, Key, Session};
use crate::support::process;
use crate::support::time::{stays, wait_for};

/// Long, and found nowhere by chance.
const SECRET: &str = "Xq7-hunter2-Zm4wPb9sKd";
const NEW_SECRET: &str = "Vt3-another1-Rc8nQy5uLf";

fn key_line(secret: &str) -> String {
    format!("key {{ algorithm SHA256 secret \"{secret}\" }}")
}

/// How often some bytes stand in the memory of a process that it can write to; 0 when it is gone.
fn copies(pid: i32, needle: &str) -> usize {
    let Ok(mut memory) = fs::File::open(format!("/proc/{pid}/mem")) else { return 0 };
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let mut count_in = |line: &str| -> Option<usize> {
        let mut words = line.split_whitespace();
        let (start, end) = words.next()?.split_once('-')?;
        words.next().filter(|rights| rights.starts_with("rw"))?;
        let (start, end) = (u64::from_str_radix(start, 16).ok()?, u64::from_str_radix(end, 16).ok()?);
        let mut bytes = vec![0; usize::try_from(end - start).ok()?];
        memory.seek(SeekFrom::Start(start)).ok()?;
        memory.read_exact(&mut bytes).ok()?;
        Some(bytes.windows(needle.len()).filter(|window| *window == needle.as_bytes()).count())
    };
    maps.lines().filter_map(&mut count_in).sum()
}

/// The main daemon's process and that of its worker.
fn daemon_and_worker(lab: &Lab, node: &str) -> [i32; 2] {
    [lab.pid(node), lab.res(node).worker.expect("it has a worker")]
}

#[test]
fn a_secret_is_in_the_memory_of_a_process_once_and_when_it_is_replaced_nowhere() {
    let lab = Plan::new(&["a", "b", "w"]).in_resource(&key_line(SECRET)).loopback();
    lab.run_standard();
    for node in ["a", "b", "w"] {
        let processes = daemon_and_worker(&lab, node);
        // While it makes a connection, a worker has one more.
        wait_for(&format!("each process of {node} has the secret once"), || {
            processes.map(|pid| copies(pid, SECRET)) == [1, 1]
        });
    }
    lab.write_config(&lab.standard_config().replace(SECRET, NEW_SECRET));
    for node in ["a", "b", "w"] {
        assert_eq!(lab.ctl(node, &["reload"]).code, 0);
    }
    for node in ["a", "b", "w"] {
        let processes = daemon_and_worker(&lab, node);
        wait_for(&format!("no process of {node} has the old secret"), || {
            processes.map(|pid| copies(pid, SECRET)) == [0, 0] && processes.map(|pid| copies(pid, NEW_SECRET)) == [1, 1]
        });
    }
    assert_eq!((lab.count("a", "start res"), lab.res("a").remotes[0].1.as_deref()), (1, Some("connected")));
}

/// What can be wrong with a key, with a secret in every place that it may have got into.
const FAULTY: [&str; 20] = [
    "key { algorithm SHA256 secret \"SECRET\"",
    "key { algorithm SHA255 secret \"SECRET\" }",
    "key { algorithm \"\" secret SECRET }",
    "key { secret SECRET }",
    "key { algoritm SHA256 secret SECRET }",
    "key { algorithm SHA256 secert SECRET }",
    "key { algorithm SHA256 SECRET }",
    "key { algorithm SHA256, secret SECRET }",
    "key { algorithm SHA256 secret SECRET SECRET }",
    "key { algorithm SHA256 secret = SECRET }",
    "key { algorithm SHA256 secret \"SECRET }",
    "key { algorithm SHA256 secret \"SECRET\\q\" }",
    "key { algorithm SHA256 secret SECRET$ }",
    "key { algorithm SHA256 secret=SECRET }",
    "key { algorithm=SHA256 secret \"SECRET\" } timeout soon",
    "key SHA256 \"SECRET\"",
    "key SECRET",
    "secret SECRET",
    "timeout soon secret SECRET",
    "key { algorithm SHA256 secret SECRET } key { algorithm SHA255 secret SECRET }",
];

/// Everything that a laboratory's processes have said so far, and what any user can see of them.
fn shown(lab: &Lab) -> Vec<(String, Vec<u8>)> {
    let mut all = Vec::new();
    for node in lab.nodes() {
        all.push((format!("log of {node}"), lab.log_text(node).into_bytes()));
        for pid in lab.tree(node) {
            for name in ["cmdline", "environ", "comm", "status"] {
                let path = format!("/proc/{pid}/{name}");
                all.extend(fs::read(&path).ok().map(|bytes| (path, bytes)));
            }
        }
    }
    let seen = lab.dir().join("seen");
    all.push(("what hooks have seen".to_owned(), fs::read(seen).unwrap_or_default()));
    all
}

#[track_caller]
fn assert_hidden(what: &str, bytes: &[u8]) {
    for secret in [SECRET, NEW_SECRET] {
        // A part of it would be as bad.
        let is_there = bytes.windows(8).any(|window| window == &secret.as_bytes()[4..12]);
        assert!(!is_there, "{what} shows the secret: {}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_secret_is_in_no_log_and_in_nothing_that_is_shown_whatever_is_wrong() {
    let lab = Plan::new(&["a", "b", "w"]).in_resource(&key_line(SECRET)).loopback();
    let look = "for process in $$ $PPID; do cat /proc/$process/cmdline /proc/$process/environ; done >>@LAB@/seen";
    for (node, event) in [("a", "status"), ("b", "connect"), ("w", "complain")] {
        lab.before(node, event, &look.replace("@LAB@", &lab.dir().display().to_string()));
    }
    for node in ["a", "b", "w"] {
        lab.spawn_with(node, &["-d", "-d"]);
    }
    wait_for("all answer", || ["a", "b", "w"].iter().all(|node| lab.res(node).role == "init"));
    lab.standard_roles();
    lab.wait_status("w", "watchdog", "run");

    let (b, w, a) = (lab.ip("b"), lab.ip("w"), lab.listens("a"));
    for key in
        [None, Some(Key::new("SHA256", NEW_SECRET)), Some(Key::new("MD5", SECRET)), Some(Key::new("SHA256", SECRET))]
    {
        assert!(Session::open(b, a, "res", 7, key.as_ref()).is_err());
        peer::poll(w, a, "res", key.as_ref());
        peer::set_role(w, a, 9, key.as_ref());
        peer::complain(w, lab.listens("b"), "res", key.as_ref());
    }
    for arguments in
        [["dump"].as_slice(), &["status"], &["dump", "-d", "-d"], &["role", "-d", "-d", "secondary", "none"]]
    {
        let output = lab.ctl("a", arguments);
        assert_hidden(&format!("{arguments:?}"), &[output.stdout, output.stderr].concat().into_bytes());
    }
    assert!(lab.ctl("a", &["dump"]).stdout.contains("secret \"********\""));

    let sound = lab.standard_config();
    for faulty in FAULTY {
        lab.write_config(&sound.replace(&key_line(SECRET), &faulty.replace("SECRET", SECRET)));
        let control = lab.control_socket("a").display().to_string();
        for arguments in [["dump"].as_slice(), &["reload", "--control", &control]] {
            let output = lab.ctl("a", arguments);
            assert_eq!(output.code, 78, "{faulty}: {output:?}");
            assert_hidden(faulty, &[output.stdout, output.stderr].concat().into_bytes());
        }
    }
    // Another secret than the peers have: signatures fail on both sides.
    lab.write_config(&sound.replace(SECRET, NEW_SECRET));
    let control = lab.control_socket("b").display().to_string();
    assert_eq!(lab.ctl("b", &["reload", "--control", &control]).code, 0);
    process::signal(lab.res("b").worker.unwrap(), rustix::process::Signal::KILL);
    wait_line(&lab, "a", "Wrong signature");
    wait_line(&lab, "b", "Wrong signature");

    let all = shown(&lab);
    assert!(all.iter().any(|(what, bytes)| what == "what hooks have seen" && bytes.len() > 500));
    all.iter().for_each(|(what, bytes)| assert_hidden(what, bytes));
    assert!(lines(&lab, "a", "the configuration stays as it was").len() >= FAULTY.len());
}

#[test]
fn what_helps_an_attacker_is_told_at_the_start() {
    const READABLE: &str = "may be read by everybody on this machine: chmod 600";
    const SHORT: &str = "[res] the secret of its key has 7 bytes";
    const NO_KEY: &str = "no key for res";
    let lab = Plan::new(&["a", "b"]).loopback();
    let told = |key: &str, mode: u32| {
        lab.write_config(&lab.standard_config().replace("resource res {", &format!("resource res {{\n{key}")));
        fs::set_permissions(lab.config(), fs::Permissions::from_mode(mode)).unwrap();
        let _ = fs::remove_file(lab.log_path("a"));
        lab.start("a");
        wait_line(&lab, "a", "started on node a");
        assert_eq!(lab.stop("a"), 0);
        [READABLE, SHORT, NO_KEY].map(|text| lines(&lab, "a", text).len())
    };
    assert_eq!(told(&key_line(SECRET), 0o644), [1, 0, 0]);
    assert_eq!(told(&key_line("hunter2"), 0o600), [0, 1, 0]);
    assert_eq!(told("", 0o644), [0, 0, 1], "there is no secret in it");
    assert_eq!(told(&key_line(SECRET), 0o600), [0, 0, 0]);
    assert_eq!(told(&key_line(SECRET), 0o640), [0, 0, 0], "a group is chosen on purpose");
}

#[test]
fn the_key_of_one_resource_is_not_known_to_the_worker_of_another() {
    let lab = Plan::new(&["a", "b"]).resources(["one", "two"].map(str::to_owned)).loopback();
    let config = lab.standard_config().replace("resource two {", &format!("resource two {{\n{}", key_line(SECRET)));
    lab.write_config(&config);
    lab.start("a");
    lab.role("a", "secondary");
    let worker = |name: &str| lab.worker("a", &format!("hastmon: {name} (secondary)"));
    wait_for("both have a worker", || worker("one").is_some() && worker("two").is_some());
    wait_for("the one has the secret", || copies(worker("two").unwrap(), SECRET) == 1);
    stays(Duration::from_secs(1), "the other has not", || copies(worker("one").unwrap(), SECRET) == 0);
}
