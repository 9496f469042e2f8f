//! Who may give orders: over the network hardly anybody, and on the control socket its owner, also while a worker is stuck.

use std::fs;
use std::mem::MaybeUninit;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::fs::inotify::{self, ReadFlags, WatchFlags};
use rustix::io::Errno;
use rustix::process::Signal;

use super::{assert_undisturbed, history, lines, wait_line};
use crate::support::lab::{Lab, Output, Plan, run};
use crate::support::peer::{self, Key, PRIMARY, SECONDARY, Value, decode, get};
use crate::support::process;
use crate::support::time::{now_ns, seconds, wait_for};

/// sysexits: another daemon has it; a file cannot be had.
const TEMPORARY: i32 = 75;
const UNAVAILABLE: i32 = 69;

#[test]
fn a_role_is_set_over_the_network_by_signature_alone_and_the_refusal_names_the_peer() {
    const SECRET: &str = "correct horse battery";
    let lab =
        Plan::new(&["a", "b", "w"]).in_resource(&format!("key {{ algorithm SHA256 secret \"{SECRET}\" }}")).loopback();
    lab.run_standard();
    let before = history(&lab);
    let (b, w, a) = (lab.ip("b"), lab.ip("w"), lab.listens("a"));
    let right = Key::new("SHA256", SECRET);
    let others = [Key::new("SHA256", "correct horse"), Key::new("SHA256", ""), Key::new("MD5", SECRET)];
    for key in others.iter().map(Some).chain([None]) {
        for from in [b, w] {
            let answer = decode(&peer::set_role(from, a, SECONDARY, key).expect("an answer"));
            assert_eq!(get(&answer, "error0"), Some(&Value::I16(5)), "{from} with {key:?}");
        }
    }
    assert_eq!(peer::set_role(lab.ip("x"), a, SECONDARY, Some(&right)), None, "a stranger who has stolen the key");
    let refusal = |from: std::net::Ipv4Addr| {
        format!("refused {from}: set role secondary for res: not signed with a configured key")
    };
    wait_for("the refusal of each peer is told once, and counted from there", || {
        [b, w].iter().all(|from| lines(&lab, "a", &refusal(*from)).len() == 1)
    });
    wait_line(&lab, "a", &format!("refused {}: it is in no friends and no remote", lab.ip("x")));
    assert_undisturbed(&lab, &before);
    assert!(peer::set_role(w, a, PRIMARY, Some(&right)).is_some_and(|answer| get(&decode(&answer), "role0").is_some()));
}

/// What has happened to a file in a directory, since the watch began.
fn seen(watch: &impl std::os::fd::AsFd, name: &str) -> Vec<ReadFlags> {
    let mut space = [MaybeUninit::uninit(); 4096];
    let mut events = inotify::Reader::new(watch, &mut space);
    let mut seen = Vec::new();
    loop {
        match events.next() {
            Ok(event) if event.file_name().is_some_and(|have| have.to_bytes() == name.as_bytes()) => {
                seen.push(event.events());
            }
            Ok(_) => {}
            Err(Errno::AGAIN) => return seen,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn the_control_socket_is_for_its_owner_alone_from_the_moment_it_is_there() {
    let lab = Plan::new(&["a", "b"]).loopback();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK | inotify::CreateFlags::CLOEXEC).unwrap();
    inotify::add_watch(&watch, lab.node_dir("a"), WatchFlags::CREATE | WatchFlags::ATTRIB | WatchFlags::MOVED_TO)
        .unwrap();
    // The most generous of administrators.
    let daemon = lab.daemon_command("a", &["-F"]);
    let mut command = Command::new("sh");
    command.args(["-c", "umask 0; exec \"$@\"", "sh"]).arg(daemon.get_program()).args(daemon.get_args());
    command.env(process::MARK, lab.node_dir("a")).stdin(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    wait_for("it answers", || lab.res("a").role == "init");
    let socket = fs::metadata(lab.control_socket("a")).unwrap();
    assert_eq!(socket.permissions().mode() & 0o7777, 0o600);
    assert_eq!(seen(&watch, "control"), [ReadFlags::CREATE], "created as it is, and never changed");
    process::signal(child.id().cast_signed(), Signal::TERM);
    child.wait().unwrap();
    assert!(!lab.control_socket("a").exists());
}

/// A daemon of node a that is expected to end at once.
fn fails(lab: &Lab) -> Output {
    let start = now_ns();
    let own = |name: &str| lab.dir().join(name).display().to_string();
    let arguments = ["-F", "-P", &own("pid-2"), "-s", &own("state-2")];
    let output = run(&mut lab.daemon_command("a", &arguments));
    assert!(now_ns() - start < 20_000_000_000, "it took {:.1} s to see that", seconds(now_ns() - start));
    output
}

#[test]
fn no_link_in_the_place_of_the_control_socket_is_followed() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.start("b");
    let dir = lab.dir();
    fs::write(dir.join("file"), "precious").unwrap();
    drop(std::os::unix::net::UnixListener::bind(dir.join("dead")).unwrap());
    let inode = |path: &Path| fs::symlink_metadata(path).map(|file| file.ino()).ok();
    for target in [dir.join("file"), dir.join("nowhere"), dir.join("dead"), lab.control_socket("b")] {
        let _ = fs::remove_file(lab.control_socket("a"));
        symlink(&target, lab.control_socket("a")).unwrap();
        let before = (inode(&target), inode(&lab.control_socket("a")));
        let output = fails(&lab);
        assert_eq!(output.code, UNAVAILABLE, "{output:?}");
        assert!(output.stderr.contains("exists and is not a socket"), "{output:?}");
        assert_eq!((inode(&target), inode(&lab.control_socket("a"))), before, "{}", target.display());
    }
    assert_eq!(fs::read_to_string(dir.join("file")).unwrap(), "precious");
    assert_eq!(lab.res("b").role, "init");
}

#[test]
fn the_control_socket_is_taken_over_from_a_dead_owner_alone() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.start("a");
    let in_use = |what: &str| {
        let output = fails(&lab);
        assert_eq!(output.code, TEMPORARY, "{what}: {output:?}");
        assert!(output.stderr.contains("Another daemon answers on the control socket"), "{what}: {output:?}");
    };
    in_use("it runs");
    lab.signal("a", Signal::STOP);
    in_use("it is frozen");
    lab.signal("a", Signal::CONT);
    assert_eq!(lab.res("a").role, "init", "it is still the one that answers");
    lab.kill("a");
    assert!(lab.control_socket("a").exists(), "nobody has removed it");
    lab.start("a");
    assert_eq!(lab.res("a").role, "init");
    assert_eq!(fs::metadata(lab.control_socket("a")).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn while_a_worker_is_stuck_status_says_what_is_known_and_that_it_is_stuck() {
    // A primary that is frozen for longer than its silence may last stops its resource when it wakes.
    let lab = Plan::new(&["a", "b", "w"]).set("complaint_count", "600").loopback();
    lab.run_standard();
    let worker = lab.worker("a", "hastmon: res (primary)").unwrap();
    process::signal(worker, Signal::STOP);
    let mut slowest = 0;
    let mut status = String::new();
    wait_for("status says that it is stuck", || {
        let start = now_ns();
        let output = lab.ctl("a", &["status"]);
        slowest = slowest.max(now_ns() - start);
        assert_eq!(output.code, 0);
        status = output.stdout;
        status.contains("\n  stuck: the worker has said nothing for ")
    });
    for line in ["  role: primary", &format!("  workerpid: {worker}"), "  state: run"] {
        assert!(status.lines().any(|have| have == line), "{line:?} in {status}");
    }
    assert!(slowest < 10_000_000_000, "status took {:.1} s", seconds(slowest));
    wait_line(&lab, "a", "[res] the worker has said nothing for");
    let start = now_ns();
    let answer = decode(&peer::poll(lab.ip("w"), lab.listens("a"), "res", None).expect("polls are answered, too"));
    assert!(now_ns() - start < 10_000_000_000);
    assert!(get(&answer, "stuck_ms0").is_some(), "{answer:?}");
    let reloaded = lab.ctl("a", &["reload"]);
    assert_eq!(reloaded.code, 0, "{}", reloaded.stderr);

    process::signal(worker, Signal::CONT);
    wait_line(&lab, "a", "[res] the worker speaks again");
    wait_for("it is as before", || {
        !lab.ctl("a", &["status"]).stdout.contains("stuck") && lab.res("a").remotes[0].1.as_deref() == Some("connected")
    });
    assert_eq!((lab.count("a", "start res"), lab.count("a", "stop res"), lab.running("a")), (1, 0, 1));
    assert_eq!(lab.res("b").role, "secondary");
}

#[test]
fn callers_on_the_control_socket_that_say_nothing_keep_nobody_else_out_for_long() {
    let lab = Plan::new(&["a", "b"]).loopback();
    lab.start("a");
    let silent: Vec<_> =
        (0..80).map(|_| std::os::unix::net::UnixStream::connect(lab.control_socket("a")).unwrap()).collect();
    wait_for("there is room again", || lab.res("a").role == "init");
    let start = now_ns();
    assert_eq!(lab.res("a").role, "init");
    assert!(Duration::from_nanos(now_ns() - start) < Duration::from_secs(3));
    drop(silent);
}
