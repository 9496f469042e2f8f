//! Reads the name of this host. Which section of the configuration that selects is decided in `hastmon_core::config`.

use rustix::system::uname;

/// The host name as the kernel has it (what `uname -n` prints); bytes that are not UTF-8 become U+FFFD, which matches no node.
pub fn host_name() -> String {
    uname().nodename().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_host_name_is_that_of_uname() {
        let uname = std::process::Command::new("uname").arg("-n").output().unwrap();
        assert_eq!(host_name(), String::from_utf8(uname.stdout).unwrap().trim());
    }
}
