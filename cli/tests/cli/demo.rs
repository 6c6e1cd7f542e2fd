//! `tarn demo`, as a newcomer runs it.

use crate::support::{json, run};

#[test]
fn the_demo_is_as_it_should_be_and_leaves_a_store() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("debian");
    let said = run(None, &["demo", "--dir", store.to_str().unwrap(), "--json"]);
    assert!(said.status.success(), "{said:?}");
    let report: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(report["problems"], serde_json::json!([]));
    assert_eq!(report["points"], 6_000);
    assert!(report["recallAt10"].as_f64() >= Some(0.95), "{}", report["recallAt10"]);
    assert_eq!(report["answers"].as_array().unwrap().len(), 20);

    // The commands that it suggests work.
    let found = json(&store, &["search", "packages/1.0", "--like", "package=vlc", "-k", "1"]);
    assert_eq!(found["results"][0][0]["attributes"]["package"], "vlc", "{found}");
    assert_eq!(json(&store, &["verify"])["problems"], serde_json::json!([]));
}

#[test]
fn the_demo_tells_its_story() {
    let said = run(None, &["demo"]);
    assert!(said.status.success(), "{said:?}");
    for part in
        ["Queries in plain words", "a game of chess", "BEFORE", "recall@10", "IN THE STORE", "tarn", "demo --dir"]
    {
        assert!(said.stdout.contains(part), "{part}: {}", said.stdout);
    }
}
