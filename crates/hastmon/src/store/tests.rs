//! The store against crashes, full and read-only disks, garbage, and other daemons.

use std::fs::Permissions;
use std::os::unix::fs::symlink;
use std::process::{Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use super::*;
use crate::os::clock;
use hastmon_core::lease::Voters;

/// A state directory that is not there yet.
pub(super) fn directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("state");
    (directory, path)
}

pub(super) fn record(epoch: u64) -> Record {
    let voters = Voters::new(["node-a", "node-b"].map(String::from));
    Record { holder: "node-a".into(), epoch, hold: Duration::from_millis(40_000), voters, kept: false }
}

/// Other tests of this process start children, which hold a copy of a lock for the moment between fork and exec.
fn open_soon(path: &Path) -> Store {
    loop {
        match Store::open(path) {
            Err(StoreError::Held { .. }) => std::thread::yield_now(),
            other => return other.unwrap(),
        }
    }
}

#[test]
fn a_vote_is_found_by_the_next_daemon_until_it_is_removed() {
    let (_directory, path) = directory();
    let names = ["web", "a/b", "..", "web~", &"x".repeat(255)];
    let store = Store::open(&path).unwrap();
    for (epoch, name) in (1..).zip(names) {
        assert_eq!(store.read(name).unwrap(), None);
        store.write(name, Some(&record(0))).unwrap();
        store.write(name, Some(&record(epoch))).unwrap();
    }
    drop(store);
    let store = open_soon(&path);
    for (epoch, name) in (1..).zip(names) {
        assert_eq!(store.read(name).unwrap(), Some(record(epoch)));
        store.write(name, None).unwrap();
        store.write(name, None).unwrap();
        assert_eq!(store.read(name).unwrap(), None);
    }
    let left: Vec<_> = fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, [LOCK]);
}

#[test]
fn the_directory_and_its_files_are_private() {
    let (_directory, path) = directory();
    let store = Store::open(&path).unwrap();
    store.write("web", Some(&record(1))).unwrap();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    assert_eq!(mode(&path.join("vote.web")), 0o600);
}

#[test]
fn a_directory_that_others_may_write_to_is_refused() {
    let (_directory, path) = directory();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o770)).unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::Insecure(_)), "{error}");
    assert!(error.to_string().contains("chmod 700"), "{error}");
}

#[test]
fn what_is_no_directory_or_lock_is_refused_and_left_alone() {
    let (_directory, path) = directory();
    fs::write(&path, "x").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::NotADirectory(_)), "{error}");
    assert_eq!(fs::read(&path).unwrap(), b"x");

    let (_directory, path) = directory();
    fs::create_dir(&path).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o700)).unwrap();
    fs::write(path.join(LOCK), "a letter").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(matches!(error, StoreError::NotALock(_)), "{error}");
    assert_eq!(fs::read(path.join(LOCK)).unwrap(), b"a letter");
}

#[test]
fn a_missing_directory_above_is_named_with_what_to_do() {
    let (_directory, path) = directory();
    let path = path.join("deeper");
    let error = Store::open(&path).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot create the state directory {}: ", path.display())), "{error}");
    assert!(error.ends_with("create the directory in which it is to be, or name another state directory with -s"));
}

#[test]
fn a_second_daemon_is_refused_and_told_the_pid_of_the_first() {
    let (_directory, path) = directory();
    let _first = Store::open(&path).unwrap();
    fs::write(path.join(LOCK), "4711").unwrap();
    let error = Store::open(&path).unwrap_err();
    assert!(error.to_string().contains(&format!("{}, pid: 4711: end that one", path.display())), "{error}");
    assert_eq!(error.exit_code(), 75);
}

#[test]
fn a_write_that_was_cut_short_anywhere_leaves_the_old_record() {
    let (_directory, path) = directory();
    let store = Store::open(&path).unwrap();
    for old in [None, Some(record(1))] {
        let new = record(2).to_text();
        for size in 0..=new.len() {
            store.write("web", old.as_ref()).unwrap();
            // What a crash leaves at each step before the rename.
            fs::write(path.join("vote.web~"), &new[..size]).unwrap();
            assert_eq!(store.read("web").unwrap(), old);
            assert_eq!(store.read("web~").unwrap(), None);
        }
        store.write("web", Some(&record(3))).unwrap();
        assert_eq!(store.read("web").unwrap(), Some(record(3)));
        assert!(!path.join("vote.web~").exists());
    }
}

#[test]
fn garbage_at_any_byte_is_an_error_that_names_the_file() {
    let (_directory, path) = directory();
    let store = Store::open(&path).unwrap();
    let text = record(1).to_text().into_bytes();
    let file = path.join("vote.web");
    for at in 0..text.len() {
        for byte in [0, b'\n', b'7', 0xff, text[at] ^ 1] {
            let mut changed = text.clone();
            changed[at] = byte;
            fs::write(&file, &changed).unwrap();
            match store.read("web") {
                Ok(read) => assert!(changed == text && read == Some(record(1))),
                Err(error) => assert!(error.to_string().contains(&file.display().to_string()), "{error}"),
            }
        }
        fs::write(&file, &text[..at]).unwrap();
        assert!(store.read("web").is_err());
    }
    fs::write(&file, text.repeat(1000)).unwrap();
    assert!(store.read("web").is_err());
    store.write("web", Some(&record(2))).unwrap();
    assert_eq!(store.read("web").unwrap(), Some(record(2)));
}

#[test]
fn what_is_no_file_is_an_error_and_not_followed() {
    let (directory, path) = directory();
    let store = Store::open(&path).unwrap();
    let target = directory.path().join("target");
    fs::write(&target, record(1).to_text()).unwrap();
    symlink(&target, path.join("vote.link")).unwrap();
    fs::create_dir(path.join("vote.directory")).unwrap();
    assert!(store.read("link").is_err());
    assert!(store.read("directory").is_err());
    assert!(store.write("directory", Some(&record(2))).is_err());
    symlink(&target, path.join("vote.web~")).unwrap();
    store.write("web", Some(&record(2))).unwrap();
    assert_eq!(fs::read_to_string(&target).unwrap(), record(1).to_text());
}

#[test]
fn a_holder_with_too_long_a_name_is_not_recorded() {
    let (_directory, path) = directory();
    let store = Store::open(&path).unwrap();
    let long = Record { holder: "x".repeat(MAX_TEXT_LEN), ..record(1) };
    assert!(matches!(store.write("web", Some(&long)), Err(StoreError::TooLong)));
    assert_eq!(store.read("web").unwrap(), None);
}

/// Runs an ignored test of this file as a process of its own, by way of `wrapper`.
fn child(wrapper: &[&str], test: &str, directory: &Path) -> Command {
    let program = std::env::current_exe().unwrap();
    let mut words = wrapper.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
    let mut command = Command::new(words.next().unwrap());
    command.args(words).args(["--ignored", "--nocapture", "--exact", &format!("store::tests::{test}")]);
    command.env("STATE_DIRECTORY", directory);
    command
}

fn child_directory() -> PathBuf {
    std::env::var_os("STATE_DIRECTORY").unwrap().into()
}

#[test]
fn a_daemon_killed_at_any_moment_leaves_a_record_that_can_be_read() {
    let (_directory, path) = directory();
    let mut last = 0;
    for round in 0..30 {
        let mut child = child(&[], "writes_until_it_is_killed", &path).stdout(Stdio::null()).spawn().unwrap();
        let start = clock::now();
        let is_under_way = || match fs::read_to_string(path.join("vote.web")) {
            Ok(text) => Record::from_text(&text).unwrap().epoch > last,
            Err(_) => false,
        };
        while !is_under_way() {
            assert!(clock::now().since(start) < Duration::from_secs(30));
        }
        // Somewhere else in a write each time.
        let until = clock::now() + Duration::from_micros(round * 97);
        while clock::now() < until {}
        child.kill().unwrap();
        child.wait().unwrap();
        let epoch = open_soon(&path).read("web").unwrap().unwrap().epoch;
        assert!(epoch > last);
        last = epoch;
    }
}

#[test]
#[ignore = "runs in a process of its own, see above"]
fn writes_until_it_is_killed() {
    let store = open_soon(&child_directory());
    let epoch = store.read("web").unwrap().map_or(0, |record| record.epoch);
    for epoch in epoch + 1.. {
        store.write("web", Some(&record(epoch))).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_or_read_only_disk_is_an_error_that_says_what_to_do_and_keeps_the_old_record() {
    if !rustix::process::geteuid().is_root() {
        println!("not tested: only root can mount a small disk");
        return;
    }
    let (_directory, path) = directory();
    fs::create_dir(&path).unwrap();
    let wrapper = ["unshare", "--mount", "sh", "-ec"];
    let mount =
        r#"mount -t tmpfs -o size=32k,mode=700 tmpfs "$STATE_DIRECTORY" || { echo no mount; exit 0; }; exec "$0" "$@""#;
    let output = child(&[&wrapper[..], &[mount]].concat(), "fills_its_disk", &path).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    if text.contains("unshare failed") || text.contains("no mount") {
        println!("not tested: this system does not let root mount a small disk: {text}");
        return;
    }
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
}

#[test]
#[ignore = "runs in a process of its own, see above"]
fn fills_its_disk() {
    let path = child_directory();
    let store = Store::open(&path).unwrap();
    store.write("web", Some(&record(1))).unwrap();
    let mut filler = File::create(path.join("filler")).unwrap();
    while filler.write_all(&[1; 512]).is_ok() {}

    let error = store.write("web", Some(&record(2))).unwrap_err().to_string();
    assert!(error.contains(&path.join("vote.web~").display().to_string()), "{error}");
    assert!(error.ends_with("make room there, or name a state directory elsewhere with -s"), "{error}");
    assert!(!path.join("vote.web~").exists());
    assert_eq!(store.read("web").unwrap(), Some(record(1)));
    drop(filler);
    // Room is not needed to forget.
    store.write("web", None).unwrap();
    fs::remove_file(path.join("filler")).unwrap();
    store.write("web", Some(&record(3))).unwrap();

    // Itself again, on top of itself: the one below cannot become read-only while the lock is open.
    let on_top = r#"mount --bind "$0" "$0" && mount -o remount,bind,ro "$0""#;
    assert!(Command::new("sh").arg("-c").arg(on_top).arg(&path).status().unwrap().success());
    let error = store.write("web", Some(&record(4))).unwrap_err().to_string();
    assert!(error.contains("mount it for writing"), "{error}");
    assert!(store.write("web", None).is_err());
    assert_eq!(store.read("web").unwrap(), Some(record(3)));
}

/// cargo test --release -p hastmon --lib how_long_a_vote -- --ignored --nocapture
#[test]
#[ignore = "a measurement"]
fn how_long_a_vote_takes_to_write() {
    let (_directory, path) = directory();
    let store = Store::open(&path).unwrap();
    let mut times: Vec<Duration> = (0..300)
        .map(|epoch| {
            let start = clock::now();
            store.write("web", Some(&record(epoch))).unwrap();
            clock::now().since(start)
        })
        .collect();
    times.sort();
    println!("median {:?}, worst {:?}", times[150], times[299]);
}
