//! libFuzzer -> [`hastmon_fuzz::config`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hastmon_fuzz::config(data));
