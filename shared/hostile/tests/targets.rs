//! Each target on its seeds, and on mutations of them: what can be found without a fuzzer is found in every run of the tests.

use tarn_hostile::{Mutator, TARGETS};

/// Inputs per target, besides the seeds.
const MUTATIONS: usize = 3000;

fn survives(name: &str) {
    let target = TARGETS.iter().find(|target| target.name == name).expect("a target");
    let seeds = (target.seeds)();
    for (_, seed) in &seeds {
        (target.run)(seed);
    }
    let mut mutator = Mutator::new(20_251_121);
    for number in 0..MUTATIONS {
        let (_, seed) = &seeds[number % seeds.len()];
        let (_, other) = &seeds[number * 7 % seeds.len()];
        let mut bytes = seed.clone();
        mutator.mutate(&mut bytes, other);
        (target.run)(&bytes);
    }
}

#[test]
fn segments_that_lie_are_refused_or_can_be_searched() {
    survives("segment");
}

#[test]
fn outlines_that_lie_are_refused_or_can_be_searched() {
    survives("outline");
}

#[test]
fn catalogs_that_lie_are_refused_or_consistent() {
    survives("catalog");
}

#[test]
fn roots_that_lie_are_refused_or_consistent() {
    survives("manifest");
}

#[test]
fn hints_that_lie_are_refused_or_consistent() {
    survives("hint");
}

#[test]
fn deltas_that_lie_are_refused_or_consistent() {
    survives("delta");
}

/// Each target is a fuzz target, too; and none is forgotten here.
#[test]
fn every_target_is_fuzzed() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz");
    let manifest = std::fs::read_to_string(root.join("Cargo.toml")).expect("the manifest of the fuzz targets");
    let names: Vec<&str> = manifest.split("[[bin]]").skip(1).filter_map(|section| section.split('"').nth(1)).collect();
    let mut targets: Vec<&str> = TARGETS.iter().map(|target| target.name).collect();
    let mut sorted = names.clone();
    sorted.sort_unstable();
    targets.sort_unstable();
    assert_eq!(sorted, targets);
    for name in names {
        let path = root.join(format!("fuzz_targets/{name}.rs"));
        let text = std::fs::read_to_string(path).expect("a fuzz target");
        assert!(text.contains(&format!("tarn_hostile::run(\"{name}\", data)")), "{name}");
    }
}
