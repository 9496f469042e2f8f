//! libFuzzer -> [`hastmon_fuzz::peer`].
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| hastmon_fuzz::peer(data));
