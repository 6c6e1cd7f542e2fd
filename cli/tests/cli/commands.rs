//! Management, search, building and looking after a store.

use std::fs;

use crate::support::{define, error, ids, json, run, text};

const POINTS: &str = r#"{"id": "a", "lang": "en", "year": 2001, "vector": [0, 0]}
{"id": "b", "lang": "en", "year": 2002, "vector": [1, 0]}
{"id": "c", "lang": "de", "year": 2003, "vector": [2, 0]}
{"attributes": [{"key": "id", "value": {"string": "d"}}, {"key": "lang", "value": {"string": "de"}}, {"key": "year", "value": {"int64": 2004}}], "vector": {"isSparse": false, "coordinates": [3, 0]}}
"#;

#[test]
fn a_whole_session_without_a_server() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    define(&store);
    let points = dir.path().join("points.ndjson");
    fs::write(&points, POINTS).unwrap();
    let points = points.to_str().unwrap();

    let uploaded = json(&store, &["upload", points, "--to", "docs/1.0"]);
    assert_eq!((&uploaded["points"], &uploaded["batches"]), (&4.into(), &1.into()), "{uploaded}");

    // Before any build, after one, and after changes on top of one: the same commands answer.
    let search = ["search", "docs/1.0", "--vector", "[0, 0]", "-k", "3"];
    assert_eq!(ids(&json(&store, &search)), ["a", "b", "c"]);
    let built = json(&store, &["build"]);
    assert_eq!(built["failures"], 0, "{built}");
    assert_eq!(ids(&json(&store, &search)), ["a", "b", "c"]);
    let changes = dir.path().join("changes.ndjson");
    fs::write(
        &changes,
        "{\"id\": \"a\", \"lang\": \"en\", \"isDeleted\": true}\n{\"id\": \"d\", \"lang\": \"de\", \"year\": 2005, \"vector\": [0.5, 0]}\n",
    )
    .unwrap();
    let changed = json(&store, &["upload", changes.to_str().unwrap(), "--to", "docs/1.0"]);
    assert_eq!((&changed["points"], &changed["deletions"]), (&1.into(), &1.into()), "{changed}");
    assert_eq!(ids(&json(&store, &search)), ["d", "b", "c"]);
    json(&store, &["build", "--index", "docs/1.0"]);
    assert_eq!(ids(&json(&store, &search)), ["d", "b", "c"]);

    // Splits, filters, exactness, likeness.
    assert_eq!(ids(&json(&store, &[&search[..], &["--split", "lang=en"]].concat())), ["b"]);
    let filter = r#"{"gte": {"key": "year", "value": 2003}}"#;
    assert_eq!(ids(&json(&store, &[&search[..], &["--filter", filter, "--exact"]].concat())), ["d", "c"]);
    assert_eq!(ids(&json(&store, &["search", "docs/1.0", "--like", "id=c", "-k", "1"])), ["c"]);
    assert!(text(&store, &search).contains("DISTANCE"));

    // What the points are like together, and some of them at random.
    let statistics = json(&store, &["index", "statistics", "docs/1.0"]);
    assert_eq!((&statistics["dataPointsCount"], &statistics["pointsRead"]), (&3.into(), &0.into()), "{statistics}");
    assert_eq!(statistics["centre"][0], (0.5 + 1.0 + 2.0) / 3.0);
    let since = json(&store, &["index", "statistics", "docs/1.0", "--since", "1", "--exact"]);
    assert_eq!((&since["drift"]["since"], &since["distances"]["from"]), (&1.into(), &"centre".into()), "{since}");
    assert!(text(&store, &["index", "statistics", "docs/1.0", "--tail"]).contains("farthest"));
    let sample = json(&store, &["index", "sample", "docs/1.0", "-n", "2", "--seed", "3", "--vectors"]);
    assert_eq!((&sample["population"], sample["points"].as_array().unwrap().len()), (&3.into(), 2), "{sample}");
    assert_eq!(sample, json(&store, &["index", "sample", "docs/1.0", "-n", "2", "--seed", "3", "--vectors"]));
    assert!(text(&store, &["index", "sample", "docs/1.0"]).contains("3 of 3 points"));

    // Everything can be looked at.
    let manifest = json(&store, &["inspect", "manifest", "docs/1.0"]);
    assert_eq!((manifest["hint"].as_str(), manifest["segments"][0]["outline"].as_u64()), (Some("copy"), Some(0)));
    assert_eq!(manifest["manifest"]["rows"], 3, "{manifest}");
    let segment = manifest["segments"][0]["id"].as_str().unwrap().to_owned();
    assert!(json(&store, &["inspect", "segment", "docs/1.0", &segment])["rowsTotal"].as_u64() >= Some(1));
    assert_eq!(json(&store, &["inspect", "checkpoint", "docs/1.0"])["checkpoint"]["rows"], 3);
    assert_eq!(json(&store, &["inspect", "timeline", "docs/1.0"])["stored"], 2);
    let delta = json(&store, &["inspect", "delta", "docs/1.0", "2"]);
    assert_eq!(delta["rows"][0]["deleted"], true, "{delta}");
    assert_eq!(json(&store, &["source", "describe", "docs/1.0"])["head"], serde_json::json!([2]));
    assert_eq!(json(&store, &["index", "describe", "docs/1.0"])["points"], 3);
    for list in [["source", "list"], ["index", "list"]] {
        assert!(text(&store, &list).contains("docs/1.0"));
    }
    for inspect in [
        &["inspect", "manifest", "docs/1.0"][..],
        &["inspect", "segment", "docs/1.0", &segment],
        &["inspect", "checkpoint", "docs/1.0"],
        &["inspect", "timeline", "docs/1.0"],
        &["inspect", "delta", "docs/1.0", "2"],
        &["source", "describe", "docs/1.0"],
        &["index", "describe", "docs/1.0"],
        &["gc", "--dry-run"],
    ] {
        assert!(!text(&store, inspect).is_empty(), "{inspect:?}");
    }

    // The store is sound; what is garbage is said before it is deleted.
    let verified = json(&store, &["verify"]);
    assert_eq!(verified["problems"], serde_json::json!([]), "{verified}");
    let would = json(&store, &["gc", "--dry-run", "--grace", "0s", "--retain", "1"]);
    assert_eq!(would["dryRun"], true);
    let refused = error(Some(&store), &["gc", "--grace", "6h", "--retain", "1"]);
    assert!(refused.contains("too short") && refused.contains("--store-is-idle"), "{refused}");
    let done = json(&store, &["gc", "--grace", "0s", "--retain", "1", "--store-is-idle"]);
    assert_eq!((&done["dryRun"], &done["objects"]), (&false.into(), &would["objects"]), "{done}");
    assert_eq!(json(&store, &["verify"])["problems"], serde_json::json!([]));
    assert_eq!(ids(&json(&store, &search)), ["d", "b", "c"]);

    // A data source goes after its indices.
    assert!(error(Some(&store), &["source", "delete", "docs/1.0"]).contains("is used by docs/1.0"));
    json(&store, &["index", "delete", "docs/1.0"]);
    json(&store, &["source", "delete", "docs/1.0"]);
    assert_eq!(json(&store, &["source", "list"])["dataSources"], serde_json::json!([]));
}

#[test]
fn creating_twice_is_harmless_and_differing_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    define(dir.path());
    let same = ["source", "create", "s/1", "--dimension", "2", "--attribute", "id:string", "--permanent", "id"];
    assert_eq!(json(dir.path(), &same)["created"], true);
    assert_eq!(json(dir.path(), &same)["created"], false);
    let other = ["source", "create", "s/1", "--dimension", "3", "--attribute", "id:string", "--permanent", "id"];
    assert!(error(Some(dir.path()), &other).contains("another definition"));
}

#[test]
fn errors_say_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let missing = dir.path().join("missing");
    let full = dir.path().join("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("letter.txt"), "dear").unwrap();
    let store = dir.path().join("store");
    define(&store);
    let cases: &[(Option<&std::path::Path>, &[&str], &str, &str)] = &[
        (None, &["source", "list"], "no store given", "TARN_STORE"),
        (Some(&missing), &["source", "list"], "there is no store", "tarn serve"),
        (Some(&full), &["verify"], "holds other files", "empty directory"),
        (Some(&store), &["index", "describe", "none/1"], "does not exist", "docs/1.0"),
        (Some(&store), &["search", "docs/1.0", "--vector", "[1"], "not JSON", "[0.1, 0.2]"),
        (Some(&store), &["search", "docs/1.0", "--like", "name=x"], "no attribute 'name'", "id, lang, year"),
        (Some(&store), &["upload", "no-such-file.csv", "--to", "docs/1.0"], "no-such-file.csv", ""),
        (Some(&store), &["inspect", "manifest", "docs/1.0"], "no manifest yet", "tarn build"),
        (Some(&store), &["keys", "revoke", "nobody"], "no key 'nobody'", "tarn keys list"),
        (Some(&store), &["keys", "create", "--name", "x", "--grant", "everything"], "", "read:indices/docs*"),
        (Some(&full), &["demo", "--dir", full.to_str().unwrap()], "is not empty", "new or an empty"),
    ];
    for (store, args, message, hint) in cases {
        let said = error(*store, args);
        assert!(said.contains(message), "{args:?} says {said}");
        assert!(
            hint.is_empty() || said.split_once("hint:").is_some_and(|(_, said)| said.contains(hint)),
            "{args:?} says {said}"
        );
    }
    assert_eq!(run(None, &["serve", "--listen", "nowhere"]).status.code(), Some(2), "arguments that do not parse");
}

#[test]
fn vektonn_configuration_is_imported() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("config");
    let write = |path: &str, text: &str| {
        let path = config.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write(
        "data-sources/QuickStart.Source/1.10.yaml",
        "vectorDimension: 2\nvectorsAreSparse: false\nattributeValueTypes:\n  id: Int64\npermanentAttributes: [id]\n",
    );
    write(
        "indices/QuickStart.Index/1.0.yaml",
        "dataSourceId:\n  name: QuickStart.Source\n  version: 1.10\nindexAlgorithm:\n  type: FaissIndex.L2\nidAttributes: [id]\nsplitAttributes: []\nshardsById:\n  SingleShard: {}\n",
    );
    let store = dir.path().join("store");
    let folder = config.to_str().unwrap();
    assert!(run(None, &["import-config", folder, "--dry-run"]).status.success(), "a dry run needs no store");
    assert!(!store.exists());
    let imported = json(&store, &["import-config", folder]);
    assert_eq!(imported["definitions"][0]["version"], "1.10", "{imported}");
    assert_eq!(imported["definitions"][1]["outcome"], "created", "{imported}");
    assert_eq!(json(&store, &["import-config", folder])["definitions"][1]["outcome"], "unchanged");
    assert!(text(&store, &["source", "list"]).contains("QuickStart.Source/1.10"));
}

#[test]
fn keys_are_shown_once() {
    let dir = tempfile::tempdir().unwrap();
    let created = json(dir.path(), &["keys", "create", "--name", "website", "--grant", "read:indices/docs*"]);
    let (key, id) = (created["key"].as_str().unwrap(), created["id"].as_str().unwrap());
    let listed = text(dir.path(), &["keys", "list"]);
    assert!(listed.contains(id) && listed.contains("read:indices/docs*") && !listed.contains(key), "{listed}");
    json(dir.path(), &["keys", "revoke", id]);
    assert!(text(dir.path(), &["keys", "list"]).contains("revoked"));
}

#[test]
fn what_is_wrong_goes_to_standard_error_and_the_report_stays_whole() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    define(&store);
    let points = dir.path().join("points.ndjson");
    fs::write(&points, POINTS).unwrap();
    json(&store, &["upload", points.to_str().unwrap(), "--to", "docs/1.0"]);
    let delta = store.join("sources/docs/1.0/timeline/000/00000000000000000001.parquet");
    let mut bytes = fs::read(&delta).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&delta, bytes).unwrap();
    for (command, list) in [("build", "steps"), ("verify", "problems")] {
        let said = run(Some(&store), &[command, "--json"]);
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        assert!(said.stderr.starts_with("error: "), "{said:?}");
        let report: serde_json::Value = serde_json::from_str(&said.stdout).unwrap();
        assert!(!report[list].as_array().unwrap().is_empty(), "{report}");
    }
    let said = run(Some(&store), &["build"]);
    assert!(said.stdout.contains("failed") && !said.stdout.contains("error:"), "{said:?}");
    assert!(said.stderr.contains("fold docs/1.0") && said.stderr.contains("00001.parquet"), "{said:?}");
}

#[test]
fn a_failed_upload_does_not_wait_for_standard_input() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    define(&store);
    // One line, and then the input stays open: whoever waited for its end would wait for ever.
    let line = POINTS.split_inclusive('\n').next().unwrap();
    let (_input, said) = crate::support::run_with_open_input(
        &store,
        &[
            "upload",
            "-",
            "--format",
            "ndjson",
            "--to",
            "docs/1.0",
            "--batch",
            "1",
            "--idempotency-key",
            &"k".repeat(300),
        ],
        line,
    );
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stderr.contains("idempotency key"), "{said:?}");
}
