//! The short name of this process, as `ps -o comm`, `top` and plain `pgrep` show it. The long title is `argv[0]`: whoever starts a process
//! chooses it, and nothing here rewrites it.

/// The name that the kernel gives to a program started through `/proc/self/exe`.
#[cfg(target_os = "linux")]
const NAME_OF_A_SELF_START: &str = "exe";

/// Gives a process that was started through `/proc/self/exe` (a worker, the daemon in the background) the name `hastmon` instead of `exe`.
/// Other processes keep theirs. Best effort: the name is only for the reader of a list, so a failure is no one's concern.
#[cfg(target_os = "linux")]
pub fn set_short_name() {
    const COMM: &str = "/proc/self/comm";
    if std::fs::read_to_string(COMM).is_ok_and(|name| name.trim_end() == NAME_OF_A_SELF_START) {
        let _ = std::fs::write(COMM, "hastmon");
    }
}

/// FreeBSD starts the program by its path, so its short name is right from the start.
#[cfg(not(target_os = "linux"))]
pub fn set_short_name() {}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::process::Command;

    const HELPER: &str = "os::title::tests::helper_that_renames_itself";

    /// Runs only as a process of its own, started by the test below.
    #[test]
    #[ignore = "helper process of another test"]
    fn helper_that_renames_itself() {
        let before = std::fs::read_to_string("/proc/self/comm").unwrap();
        set_short_name();
        println!("{} -> {}", before.trim(), std::fs::read_to_string("/proc/self/comm").unwrap().trim());
    }

    #[test]
    fn a_self_start_is_called_hastmon_and_another_keeps_its_name() {
        let run = |program: std::path::PathBuf| {
            let args = ["--ignored", "--exact", HELPER, "--nocapture", "--test-threads=1"];
            let output = Command::new(program).args(args).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        let self_start = run(crate::os::process::self_program().unwrap());
        assert!(self_start.contains("exe -> hastmon\n"), "{self_start}");
        let plain = run(std::env::current_exe().unwrap());
        assert!(!plain.contains("-> hastmon\n"), "{plain}");
    }
}
