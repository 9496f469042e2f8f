//! libFuzzer -> [`hastmon_fuzz::frame`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hastmon_fuzz::frame(data));
