//! libFuzzer -> [`hastmon_fuzz::daemon`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hastmon_fuzz::daemon(data));
