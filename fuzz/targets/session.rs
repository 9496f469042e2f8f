//! libFuzzer -> [`hastmon_fuzz::session`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hastmon_fuzz::session(data));
