//! The drop folder of a served directory, and `tarn drops`.

use std::fs;
use std::path::Path;

use crate::support::{Serving, define, error, ids, json, text};

/// Asks until so many files are settled.
fn settled(store: &Path, files: usize) -> serde_json::Value {
    loop {
        let drops = json(store, &["drops", "docs/1.0"]);
        let states = drops["drops"].as_array().unwrap().iter().map(|drop| drop["state"].as_str().unwrap().to_owned());
        if states.filter(|state| state == "committed" || state == "refused").count() == files {
            return drops;
        }
    }
}

#[test]
fn a_file_that_is_copied_into_the_folder_of_a_server_is_found() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    define(&store);
    assert!(text(&store, &["drops", "docs/1.0"]).contains("copy files below drop/docs/1.0/"));
    let server = Serving::start(&store, &["--drop-interval", "20ms"]);
    let folder = store.join("drop/docs/1.0/today");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("good.csv"), "id,lang,year,vector\na,en,1,\"[0,0]\"\nb,en,2,\"[1,0]\"\n").unwrap();
    fs::write(folder.join("bad.csv"), "id,lang,year,vector\na,en,soon,\"[0,0]\"\n").unwrap();
    let drops = settled(&store, 2);
    let of = |name: &str| drops["drops"].as_array().unwrap().iter().find(|drop| drop["file"] == name).unwrap().clone();
    assert_eq!((&of("today/good.csv")["state"], &of("today/good.csv")["rows"]), (&"committed".into(), &2.into()));
    let report = of("today/bad.csv")["report"].clone();
    assert_eq!((&report["row"], &report["column"]), (&1.into(), &"year".into()), "{report}");
    assert!(folder.join("good.csv").exists() && !folder.join("bad.csv").exists());
    let found = json(&store, &["search", "docs/1.0", "--vector", "[0, 0]", "-k", "2"]);
    assert_eq!(ids(&found), ["a", "b"]);
    assert!(server.terminate().success());

    let shown = text(&store, &["drops", "docs/1.0"]);
    for part in ["today/good.csv", "committed", "refused", "row 1, line 2, column 'year': 'soon' is not a Int64"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(error(Some(&store), &["drops", "docs/2.0"]).contains("does not exist"));
}
