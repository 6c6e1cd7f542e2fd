//! Target `delta` of tarn-hostile, under libFuzzer.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(
    init: {
        // The decoder has a fence for panics of the Parquet reader; libFuzzer's hook would end the process before it. What
        // is not behind the fence still ends it: libFuzzer aborts when the target unwinds.
        std::panic::set_hook(Box::new(|info| eprintln!("{info}")));
        tarn_hostile::plant_seeds("delta");
    },
    |data: &[u8]| tarn_hostile::run("delta", data)
);
