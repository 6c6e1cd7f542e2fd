//! Target `segment` of tarn-hostile, under libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tarn_hostile::prepare("segment"), |data: &[u8]| tarn_hostile::run("segment", data));
