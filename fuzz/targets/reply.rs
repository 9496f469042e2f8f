//! libFuzzer -> [`hastmon_fuzz::reply`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hastmon_fuzz::reply(data));
