//! libFuzzer -> [`hastmon_fuzz::request`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hastmon_fuzz::request(data));
