//! Target `manifest` of tarn-hostile, under libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: tarn_hostile::prepare("manifest"), |data: &[u8]| tarn_hostile::run("manifest", data));
