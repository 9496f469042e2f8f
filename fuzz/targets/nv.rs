//! libFuzzer -> [`hastmon_fuzz::nv`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hastmon_fuzz::nv(data));
