//! libFuzzer -> [`hastmon_fuzz::worker`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hastmon_fuzz::worker(data));
