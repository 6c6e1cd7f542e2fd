//! What the API has beyond Vektonn's, from the command line and over HTTP: statistics, exports, states of before, retention, what
//! uploads create, recall, kept answers.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::Command;

use reqwest::{Client, StatusCode};
use serde_json::{Value as Json, json};

use crate::serve::client;
use crate::support::{Serving, define, error, ids, json as tarn, run, text};

/// Points on a line, the even ones German: `{number}` at (number, 0).
fn ndjson(numbers: impl Iterator<Item = u32>) -> String {
    let lang = |number: u32| if number.is_multiple_of(2) { "de" } else { "en" };
    numbers
        .map(|n| format!("{{\"id\": \"p{n}\", \"lang\": \"{}\", \"year\": {n}, \"vector\": [{n}, 0]}}\n", lang(n)))
        .collect()
}

fn upload(dir: &Path, store: &Path, to: &str, points: &str) -> Json {
    let file = dir.join("points.ndjson");
    fs::write(&file, points).unwrap();
    tarn(store, &["upload", file.to_str().unwrap(), "--to", to])
}

/// Generation 1 has the points 0 to 9, generation 2 those up to 19, and 20 is in the tail.
fn two_generations(dir: &Path, store: &Path) {
    define(store);
    let sharded = ["index", "create", "sharded/1.0", "--source", "docs/1.0", "--metric", "l2", "--id", "id,lang"];
    tarn(store, &[&sharded[..], &["--split", "lang", "--shard-by", "id", "--shards", "2"]].concat());
    upload(dir, store, "docs/1.0", &ndjson(0..10));
    tarn(store, &["build"]);
    upload(dir, store, "docs/1.0", &ndjson(10..20));
    tarn(store, &["build"]);
    upload(dir, store, "docs/1.0", &ndjson(20..21));
}

async fn get(http: &Client, url: &str, query: &[(&str, &str)]) -> (StatusCode, Json) {
    let answer = http.get(url).query(query).send().await.unwrap();
    (answer.status(), answer.json().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn statistics_of_any_part_are_the_same_over_http_and_from_the_command_line() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    two_generations(dir.path(), &store);
    let server = Serving::start(&store, &["--no-build", "--no-drops"]);
    let http = client();
    let url = format!("{}/api/v1/indices/sharded/1.0/statistics", server.url);
    let (split, filter) = (r#"[{"key":"lang","value":{"string":"de"}}]"#, r#"{"gte":{"key":"year","value":5}}"#);
    let count = async |query: &[(&str, &str)], args: &[&str]| -> (Json, u64) {
        let (status, over_http) = get(&http, &url, query).await;
        assert_eq!(status, 200, "{query:?}: {over_http}");
        let mut told = tarn(&store, &[&["index", "statistics", "sharded/1.0"], args].concat());
        for name in ["version", "generation"] {
            told.as_object_mut().unwrap().remove(name);
        }
        assert_eq!(over_http, told, "{query:?}");
        let bins: u64 =
            over_http["distances"]["bins"].as_array().unwrap().iter().map(|bin| bin.as_u64().unwrap()).sum();
        assert_eq!(over_http["dataPointsCount"], bins, "{query:?}");
        (over_http, bins)
    };
    let (all, points) = count(&[], &[]).await;
    assert_eq!((points, &all["pointsRead"]), (20, &json!(0)), "{all}");
    assert_eq!(count(&[("tail", "true")], &["--tail"]).await.1, 21);
    assert_eq!(count(&[("asOf", "1")], &["--as-of", "1"]).await.1, 10);

    let mut of_shards = 0;
    let mut german_of_shards = 0;
    for shard in ["0", "1"] {
        let (of_shard, points) = count(&[("shard", shard)], &["--shard", shard]).await;
        assert_eq!(of_shard["pointsRead"], 0);
        of_shards += points;
        let query = [("shard", shard), ("splitFilter", split), ("filter", filter)];
        german_of_shards += count(&query, &["--shard", shard, "--split", "lang=de", "--filter", filter]).await.1;
    }
    assert_eq!((of_shards, german_of_shards), (20, 7), "of 6, 8, …, 18");
    assert_eq!(count(&[("splitFilter", split)], &["--split", "lang=de"]).await.1, 10);
    assert_eq!(count(&[("filter", filter)], &["--filter", filter]).await.1, 15);
    assert_eq!(count(&[("filter", filter), ("tail", "true")], &["--filter", filter, "--tail"]).await.1, 16);
    let (exact, _) = count(&[("exact", "true")], &["--exact"]).await;
    assert_eq!((&exact["distances"]["from"], &exact["distances"]["max"]), (&json!("centre"), &json!(9.5)));

    // Since generation 1 the centre has gone from 4.5 to 9.5; that of the German ones from 4 to 9.
    for (query, args, before, shift) in [
        (&[("since", "1")][..], &["--since", "1"][..], 10, 5.0),
        (&[("since", "1"), ("splitFilter", split)], &["--since", "1", "--split", "lang=de"], 5, 5.0),
        (&[("since", "1"), ("filter", filter)], &["--since", "1", "--filter", filter], 5, 5.0),
        (&[("since", "2")], &["--since", "2"], 20, 0.0),
    ] {
        let (drifted, _) = count(query, args).await;
        let drift = &drifted["drift"];
        assert_eq!(drift["dataPointsCount"], before, "{query:?}: {drift}");
        assert!((drift["centreShift"].as_f64().unwrap() - shift).abs() < 1e-6, "{query:?}: {drift}");
    }
    for (query, status) in [("since=9", 409), ("asOf=3", 409), ("since=0", 400), ("shard=2", 400)] {
        let refused = http.get(format!("{url}?{query}")).send().await.unwrap();
        assert_eq!(refused.status(), status, "{query}");
    }
    assert!(server.terminate().success());
}

/// The ids of NDJSON.
fn exported(text: &str) -> Vec<String> {
    let id = |line: &str| {
        let point: Json = serde_json::from_str(line).unwrap();
        let attributes = point["attributes"].as_array().unwrap();
        let id = attributes.iter().find(|attribute| attribute["key"] == "id").unwrap();
        id["value"]["string"].as_str().unwrap().to_owned()
    };
    let mut ids: Vec<String> = text.lines().map(id).collect();
    ids.sort_unstable_by_key(|id| id[1..].parse::<u32>().unwrap());
    ids
}

fn numbers(numbers: impl Iterator<Item = u32>) -> Vec<String> {
    numbers.map(|n| format!("p{n}")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn exports_are_whole_files_of_any_state_and_any_part() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    two_generations(dir.path(), &store);
    let filter = r#"{"lt":{"key":"year","value":4}}"#;
    let even = |to: u32| numbers((0..to).filter(|n| n % 2 == 0));
    for (args, expected) in [
        (&["source", "export", "docs/1.0"][..], numbers(0..21)),
        (&["source", "export", "docs/1.0", "--as-of", "1"], numbers(0..10)),
        (&["source", "export", "docs/1.0", "--as-of", "2", "--filter", filter], numbers(0..4)),
        (&["index", "export", "sharded/1.0"], numbers(0..21)),
        (&["index", "export", "sharded/1.0", "--as-of", "1", "--split", "lang=de"], even(10)),
        (&["index", "export", "sharded/1.0", "--filter", filter, "--split", "lang=de"], even(4)),
    ] {
        assert_eq!(exported(&text(&store, args)), expected, "{args:?}");
    }
    let sample = exported(&text(&store, &["index", "export", "sharded/1.0", "--sample", "7", "--seed", "3"]));
    assert_eq!(sample, exported(&text(&store, &["index", "export", "docs/1.0", "--sample", "7", "--seed", "3"])));
    assert_eq!(sample.len(), 7);
    assert_ne!(sample, exported(&text(&store, &["index", "export", "docs/1.0", "--sample", "7", "--seed", "4"])));

    for (number, name) in ["all.parquet", "all.arrow", "all.ndjson"].iter().enumerate() {
        let file = dir.path().join(name);
        let file = file.to_str().unwrap();
        let what = if number == 0 { ["source", "export", "docs/1.0"] } else { ["index", "export", "docs/1.0"] };
        let report = tarn(&store, &[&what[..], &["-o", file]].concat());
        assert_eq!((&report["points"], &report["version"]), (&json!(21), &json!([3])), "{report}");
        assert_eq!(report["bytes"], fs::metadata(file).unwrap().len());
        let copy = format!("copy{number}/1.0");
        let create =
            ["source", "create", &copy, "--dimension", "2", "--permanent", "id,lang", "--attribute", "id:string"];
        tarn(&store, &[&create[..], &["--attribute", "lang:string", "--attribute", "year:int64"]].concat());
        assert_eq!(tarn(&store, &["upload", file, "--to", &copy])["points"], 21);
        let copied = text(&store, &["source", "export", &copy]);
        let mut copied: Vec<&str> = copied.lines().collect();
        let original = text(&store, &["source", "export", "docs/1.0"]);
        let mut original: Vec<&str> = original.lines().collect();
        copied.sort_unstable();
        original.sort_unstable();
        assert_eq!(copied, original, "{name}");
    }
    for (args, message, hint) in [
        (&["source", "export", "docs/1.0", "--as-of", "9"][..], "the newest is 2", ""),
        (&["index", "export", "docs/1.0", "--as-of", "9"], "the newest is 2", ""),
        (&["source", "export", "docs/1.0", "-o", "x.bin"], "not clear from its name", "--format"),
        (&["source", "export", "docs/1.0", "--filter", "{"], "--filter is not JSON", "\"eq\""),
        (&["source", "export", "docs/2.0"], "does not exist", "docs/1.0"),
    ] {
        let said = error(Some(&store), args);
        assert!(said.contains(message) && said.contains(hint), "{args:?}: {said}");
    }

    // What is there already stays what it is: a link a link, a file as readable as it was, a pipe a pipe.
    let (kept, link, dangling) = (dir.path().join("kept.ndjson"), dir.path().join("link"), dir.path().join("dangling"));
    fs::write(&kept, "").unwrap();
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o606)).unwrap();
    symlink("kept.ndjson", &link).unwrap();
    symlink("new.ndjson", &dangling).unwrap();
    for (link, file) in [(&link, &kept), (&dangling, &dir.path().join("new.ndjson"))] {
        tarn(&store, &["source", "export", "docs/1.0", "--format", "ndjson", "-o", link.to_str().unwrap()]);
        assert!(fs::symlink_metadata(link).unwrap().is_symlink(), "{link:?}");
        assert_eq!(exported(&fs::read_to_string(file).unwrap()), numbers(0..21));
    }
    assert_eq!(fs::metadata(&kept).unwrap().mode() & 0o777, 0o606);
    let pipe = dir.path().join("pipe");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    // Open for both, so that neither end waits for the other.
    let mut ends = fs::OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let said = text(&store, &["source", "export", "docs/1.0", "-o", pipe.to_str().unwrap()]);
    assert_eq!(said, "");
    assert!(fs::metadata(&pipe).unwrap().file_type().is_fifo());
    let mut piped = vec![0; 1 << 16];
    let read = ends.read(&mut piped).unwrap();
    assert_eq!(exported(std::str::from_utf8(&piped[..read]).unwrap()), numbers(0..21));
    let own = dir.path().join("own");
    symlink("/proc/self/fd/1", &own).unwrap();
    assert_eq!(exported(&text(&store, &["source", "export", "docs/1.0", "-o", own.to_str().unwrap()])), numbers(0..21));
    assert!(fs::symlink_metadata(&own).unwrap().is_symlink());

    // What breaks off leaves no file.
    let deltas = store.join("sources/docs/1.0/timeline/000");
    for delta in fs::read_dir(deltas).unwrap() {
        let delta = delta.unwrap().path();
        let mut bytes = fs::read(&delta).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&delta, bytes).unwrap();
    }
    let broken = dir.path().join("broken.ndjson");
    let said = error(Some(&store), &["source", "export", "docs/1.0", "-o", broken.to_str().unwrap()]);
    assert!(said.contains("nothing was exported"), "{said}");
    assert!(!broken.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_state_of_before_is_exported_paged_and_searched_over_http() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    two_generations(dir.path(), &store);
    let server = Serving::start(&store, &["--no-build", "--no-drops"]);
    let http = client();
    let of = async |path: &str| {
        let answer = http.get(format!("{}/api/v1/{path}", server.url)).send().await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    };
    let filter = "%7B%22lt%22%3A%7B%22key%22%3A%22year%22%2C%22value%22%3A4%7D%7D";
    for (path, expected) in [
        ("data-sources/docs/1.0/export".to_owned(), numbers(0..21)),
        ("data-sources/docs/1.0/export?asOf=1".to_owned(), numbers(0..10)),
        (format!("data-sources/docs/1.0/export?asOf=2&filter={filter}"), numbers(0..4)),
        ("indices/docs/1.0/export?asOf=1".to_owned(), numbers(0..10)),
    ] {
        let (status, body) = of(&path).await;
        assert_eq!((status, exported(&body)), (200, expected), "{path}");
    }
    for (path, expected) in [
        ("data-sources/docs/1.0/export?asOf=3", 409),
        ("data-sources/docs/1.0/export?asOf=0", 400),
        ("data-sources/docs/1.0/export?filter=1", 400),
        ("indices/docs/1.0/points?asOf=3", 409),
    ] {
        assert_eq!(of(path).await.0, expected, "{path}");
    }
    // Page after page of a state that stays what it is, whatever is written meanwhile.
    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let (status, page) = of(&format!("indices/docs/1.0/points?asOf=1&limit=3&retrieveVectors=true{after}")).await;
        assert_eq!(status, 200, "{page}");
        upload(dir.path(), &store, "docs/1.0", &ndjson(0..30));
        let page: Json = serde_json::from_str(&page).unwrap();
        let lines: Vec<String> = page["points"].as_array().unwrap().iter().map(Json::to_string).collect();
        assert!(page["points"][0]["vector"].is_object());
        found.extend(exported(&lines.join("\n")));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    found.sort_unstable_by_key(|id| id[1..].parse::<u32>().unwrap());
    assert_eq!(found, numbers(0..10));
    let searched = ["search", "docs/1.0", "--vector", "[100, 0]", "-k", "2"];
    assert_eq!(ids(&tarn(&store, &[&searched[..], &["--as-of", "1"]].concat())), ["p9", "p8"]);
    assert_eq!(ids(&tarn(&store, &searched)), ["p29", "p28"]);
    // With one generation retained, the first is gone, and both say so.
    tarn(&store, &["build"]);
    tarn(&store, &["gc", "--grace", "0s", "--retain", "1", "--store-is-idle"]);
    for path in ["data-sources/docs/1.0/export?asOf=1", "indices/docs/1.0/export?asOf=1"] {
        let (status, body) = of(path).await;
        assert!(status == 410 && body.contains("is gone"), "{path}: {status} {body}");
    }
    assert!(server.terminate().success());
}

#[test]
fn searches_can_be_told_how_hard_to_look_and_what_to_rank_by() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    define(&store);
    tarn(
        &store,
        &["index", "create", "near/1.0", "--source", "docs/1.0", "--metric", "l2", "--id", "id", "--hnsw", "16,128,64"],
    );
    upload(dir.path(), &store, "docs/1.0", &ndjson(0..300));
    tarn(&store, &["build", "--cells-threshold", "100"]);
    let search = ["search", "near/1.0", "--vector", "[7, 0]", "-k", "3"];
    let with = |more: &[&str]| tarn(&store, &[&search[..], more].concat());
    for more in [&["--nprobe", "4"][..], &["--nprobe", "3", "--ef-search", "9"], &["--ef-search", "50"]] {
        assert_eq!(ids(&with(more))[0], "p7", "{more:?}");
    }
    let far = with(&["--score", "VectorDistance", "--higher-is-better", "true"]);
    assert_eq!((ids(&far)[0].as_str(), &far["results"][0][0]["distance"]), ("p299", &json!(292.0)));
    let in_time = with(&["--deadline", "1m"]);
    assert_eq!((&in_time["coverage"], ids(&in_time).len()), (&json!(1.0), 3));
    assert!(error(Some(&store), &[&search[..], &["--score", "Nearness"]].concat()).contains("CosineSimilarity"));
    assert_eq!(run(Some(&store), &[&search[..], &["--nprobe", "0"]].concat()).status.code(), Some(2));

    let recall = tarn(&store, &["index", "recall", "near/1.0", "--queries", "20", "-k", "5", "--nprobe", "1000"]);
    assert_eq!((&recall["queries"], &recall["complete"], &recall["k"]), (&json!(20), &json!(true), &json!(5)));
    assert!(recall["recall"].as_f64() > Some(0.9), "{recall}");
    let german = tarn(&store, &["index", "recall", "docs/1.0", "--split", "lang=de", "--queries", "1000"]);
    assert_eq!((&german["queries"], &german["recall"]), (&json!(150), &json!(1.0)));
    let hasty = tarn(&store, &["index", "recall", "near/1.0", "--deadline", "1ms", "--queries", "1000"]);
    assert_eq!(hasty["complete"], false, "{hasty}");
    assert!(hasty["queries"].as_u64() < Some(300), "{hasty}");
    let shown = text(&store, &["index", "recall", "near/1.0", "--deadline", "1ms", "--queries", "1000"]);
    assert!(shown.contains("the time was up"), "{shown}");

    let warmed = tarn(&store, &["index", "warm", "near/1.0"]);
    assert_eq!((&warmed["index"], &warmed["generation"]), (&json!("near/1.0"), &json!(1)), "{warmed}");
    assert!(warmed["files"].as_u64() >= Some(1) && warmed["bytes"].as_u64() > Some(0), "{warmed}");
    assert!(text(&store, &["index", "warm", "near/1.0"]).contains("ready"));
}

#[test]
fn points_are_deleted_by_what_is_true_of_them() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    define(&store);
    upload(dir.path(), &store, "docs/1.0", &ndjson(0..20));
    let filter = r#"{"lt": {"key": "year", "value": 10}}"#;
    let dry = tarn(&store, &["index", "delete-points", "docs/1.0", "--filter", filter, "--dry-run"]);
    assert_eq!((&dry["deleted"], &dry["complete"]), (&json!(10), &json!(true)), "{dry}");
    assert!(
        text(&store, &["index", "delete-points", "docs/1.0", "--filter", filter, "--dry-run"]).contains("10 points")
    );
    let some = tarn(&store, &["index", "delete-by-filter", "docs/1.0", "--where", "lang=de", "--limit", "3"]);
    assert_eq!((&some["deleted"], &some["complete"]), (&json!(3), &json!(false)), "{some}");
    let rest = tarn(&store, &["index", "delete-by-filter", "docs/1.0", "--where", "lang=de"]);
    assert_eq!((&rest["deleted"], &rest["complete"]), (&json!(7), &json!(true)), "{rest}");
    let newer = ["index", "delete-points", "docs/1.0", "--filter", filter, "--up-to", "0", "--dry-run"];
    assert_eq!(tarn(&store, &newer)["deleted"], json!(0), "nothing was there before the first upload");
    let ahead = run(Some(&store), &["index", "delete-points", "docs/1.0", "--filter", filter, "--up-to", "99"]);
    assert!(ahead.status.code() == Some(1) && ahead.stderr.contains("version 99 is ahead"), "{ahead:?}");
    tarn(&store, &["index", "delete-points", "docs/1.0", "--filter", filter]);
    assert_eq!(exported(&text(&store, &["source", "export", "docs/1.0"])), numbers((11..20).filter(|n| n % 2 == 1)));
    assert_eq!(run(Some(&store), &["index", "delete-points", "docs/1.0"]).status.code(), Some(2), "which ones?");
}

#[test]
fn points_whose_time_is_up_are_not_found_and_go_with_the_next_build() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let create = ["source", "create", "news/1.0", "--dimension", "2", "--permanent", "id", "--attribute", "id:string"];
    let keep = ["--attribute", "until:datetime", "--retention", "until", "--keep", "0"];
    tarn(&store, &[&create[..], &keep].concat());
    tarn(&store, &["index", "create", "news/1.0", "--source", "news/1.0", "--metric", "l2", "--id", "id"]);
    let point = |id: &str, until: &str| format!("{{\"id\": \"{id}\", \"until\": \"{until}\", \"vector\": [0, 0]}}\n");
    let points = point("p1", "2001-01-01T00:00:00Z") + &point("p2", "9999-01-01T00:00:00Z");
    upload(dir.path(), &store, "news/1.0", &points);
    let found = || ids(&tarn(&store, &["search", "news/1.0", "--vector", "[0, 0]"]));
    assert_eq!(found(), ["p2"]);
    assert_eq!(exported(&text(&store, &["source", "export", "news/1.0"])), ["p1", "p2"], "what is stored");
    assert_eq!(exported(&text(&store, &["index", "export", "news/1.0"])), ["p2"]);
    tarn(&store, &["build"]);
    assert_eq!(found(), ["p2"]);
    assert_eq!(exported(&text(&store, &["source", "export", "news/1.0"])), ["p2"]);
    assert_eq!(
        tarn(&store, &["source", "describe", "news/1.0"])["definition"]["policy"]["retention"]["attribute"],
        "until"
    );

    assert!(text(&store, &["source", "describe", "news/1.0"]).contains("points expire at their 'until'"));

    // A soft cap, and what cannot be.
    let cap = ["--attribute", "at:datetime", "--retention", "at", "--target-n", "5"];
    let create = ["source", "create", "few/1.0", "--dimension", "2", "--permanent", "id", "--attribute", "id:string"];
    tarn(&store, &[&create[..], &cap].concat());
    let day =
        |n: u32| format!("{{\"id\": \"p{n}\", \"at\": \"2024-01-{:02}T00:00:00Z\", \"vector\": [0, 0]}}\n", n + 1);
    upload(dir.path(), &store, "few/1.0", &(0..20).map(day).collect::<String>());
    tarn(&store, &["build"]);
    assert_eq!(exported(&text(&store, &["source", "export", "few/1.0"])), numbers(15..20));
    for wrong in
        [&["--retention", "id", "--keep", "1"][..], &["--retention", "nothing", "--keep", "1"], &["--retention", "id"]]
    {
        let create =
            ["source", "create", "bad/1.0", "--dimension", "2", "--permanent", "id", "--attribute", "id:string"];
        assert!(error(Some(&store), &[&create[..], wrong].concat()).contains("retention"), "{wrong:?}");
    }
}

const CREATING: &str = r#"{"versions": true, "indices": [{"name": "made", "indexAlgorithm": {"type": "FaissIndex.L2"}, "idAttributes": ["id"]}]}"#;

#[test]
fn uploads_create_what_the_definition_allows_from_a_file_and_from_the_drop_folder() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    let create =
        ["source", "create", "docs/1.0", "--dimension", "2", "--permanent", "id,lang", "--attribute", "id:string"];
    let more = ["--attribute", "lang:string", "--attribute", "year:int64", "--auto-create", CREATING];
    tarn(&store, &[&create[..], &more].concat());
    assert_eq!(tarn(&store, &["index", "list"])["indices"], json!([]));
    upload(dir.path(), &store, "docs/1.0", &ndjson(0..3));
    assert_eq!(ids(&tarn(&store, &["search", "made/1.0", "--vector", "[0, 0]", "-k", "9"])), ["p0", "p1", "p2"]);
    assert!(text(&store, &["source", "describe", "docs/1.0"]).contains("index made, versions of the data source"));
    // A version that there was not, and none of another name.
    upload(dir.path(), &store, "docs/1.1", &ndjson(0..2));
    assert_eq!(ids(&tarn(&store, &["search", "made/1.1", "--vector", "[0, 0]", "-k", "9"])), ["p0", "p1"]);
    let file = dir.path().join("points.ndjson");
    let said = error(Some(&store), &["upload", file.to_str().unwrap(), "--to", "others/1.0"]);
    assert!(said.contains("does not exist"), "{said}");
    // An index that was deleted does not come back.
    tarn(&store, &["index", "delete", "made/1.0"]);
    upload(dir.path(), &store, "docs/1.0", &ndjson(3..4));
    assert!(error(Some(&store), &["index", "describe", "made/1.0"]).contains("does not exist"));

    let server = Serving::start(&store, &["--no-build", "--drop-interval", "20ms"]);
    let folder = store.join("drop/docs/2.0");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join("points.ndjson"), ndjson(5..7)).unwrap();
    // Asked until it has happened; if it never does, the test fails by its time limit.
    loop {
        let said = run(Some(&store), &["search", "made/2.0", "--vector", "[0, 0]", "-k", "9", "--json"]);
        let found = said.status.success().then(|| serde_json::from_str::<Json>(&said.stdout).unwrap());
        if found.is_some_and(|found| ids(&found) == ["p5", "p6"]) {
            break;
        }
    }
    assert!(server.terminate().success());

    let create = ["source", "create", "bad/1.0", "--dimension", "2", "--permanent", "id", "--attribute", "id:string"];
    for (wrong, message) in [
        (r#"{"indices": 1}"#, "--auto-create"),
        (r#"{"version": true}"#, "'version' is not a property here"),
        (r#"{"versions": true} x"#, "--auto-create"),
        (
            r#"{"indices": [{"name": "a", "idAttributes": ["id"], "indexAlgorithm": {"type": "FaissIndex.L2", "parms": {}}}]}"#,
            "'parms' is not a property here",
        ),
        ("{}", "autoCreate creates nothing"),
    ] {
        let said = error(Some(&store), &[&create[..], &["--auto-create", wrong]].concat());
        assert!(said.contains(message), "{wrong}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_told_to_compares_searches_and_keeps_answers() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().join("store");
    define(&store);
    let near =
        ["index", "create", "near/1.0", "--source", "docs/1.0", "--metric", "l2", "--id", "id", "--split", "lang"];
    tarn(&store, &[&near[..], &["--hnsw", "16,128,64"]].concat());
    upload(dir.path(), &store, "docs/1.0", &ndjson(0..100));
    tarn(&store, &["build"]);
    let server = Serving::start(&store, &["--no-build", "--no-drops", "--recall-share", "1", "--query-cache", "4MiB"]);
    let http = client();
    let (split, filter) =
        (json!([{"key": "lang", "value": {"string": "de"}}]), json!({"lt": {"key": "year", "value": 50}}));
    let search = async |number: u32, more: &[(&str, &Json)]| {
        let vector = json!({"isSparse": false, "coordinates": [number, 0]});
        let mut query = json!({"queryVectors": [vector], "k": 5, "retrieveVectors": false});
        for (name, value) in more {
            query[name] = (*value).clone();
        }
        let answer = http.post(format!("{}/api/v1/search/near/1.0", server.url)).json(&query).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.text().await.unwrap()
    };
    let classes = [
        ("none", vec![]),
        ("split", vec![("splitFilter", &split)]),
        ("filter", vec![("filter", &filter)]),
        ("splitAndFilter", vec![("splitFilter", &split), ("filter", &filter)]),
    ];
    let describe = async || get(&http, &format!("{}/api/v1/indices/near/1.0", server.url), &[]).await.1;
    // Another vector each time, so that no answer is a kept one, until each class has been compared. The comparisons wait for a
    // moment without searches; if there never is one, the test fails by its time limit.
    let mut number = 0;
    let observed = loop {
        for (_, more) in &classes {
            search(number, more).await;
        }
        number += 1;
        let described = describe().await;
        let observed = described["recall"].as_array().cloned().unwrap_or_default();
        if observed.len() == classes.len() {
            break observed;
        }
    };
    for observed in &observed {
        assert_eq!(observed["recall"], 1.0, "so few points are all compared: {observed}");
        assert!(observed["queries"].as_u64() >= Some(1), "{observed}");
    }
    let metrics = async || http.get(format!("{}/metrics", server.url)).send().await.unwrap().text().await.unwrap();
    let shown = metrics().await;
    for (class, _) in &classes {
        for (name, kind) in
            [("tarn_recall", "gauge"), ("tarn_recall_queries_total", "counter"), ("tarn_recall_sum", "counter")]
        {
            assert!(shown.contains(&format!("# TYPE {name} {kind}")), "{name}: {shown}");
            assert!(
                shown.contains(&format!("{name}{{index=\"near/1.0\",filter=\"{class}\"}} ")),
                "{name} {class}: {shown}"
            );
        }
    }
    assert!(shown.contains("tarn_recall_dropped_total "), "{shown}");

    let hits = async || {
        let shown = metrics().await;
        let hits = shown.lines().find_map(|line| line.strip_prefix("tarn_query_cache_hits_total "));
        hits.unwrap().parse::<u64>().unwrap()
    };
    let before = hits().await;
    let first = search(1_000, &[]).await;
    assert_eq!(search(1_000, &[]).await, first);
    assert_eq!(hits().await, before + 1);
    upload(dir.path(), &store, "docs/1.0", &ndjson(999..1_000));
    assert_ne!(search(1_000, &[]).await, first, "an answer of before the upload is none");
    assert_eq!(hits().await, before + 1);
    assert!(server.terminate().success());

    for wrong in [["--recall-share", "1.5"], ["--recall-share", "some"], ["--query-cache", "much"]] {
        assert_eq!(run(Some(&store), &[&["serve"][..], &wrong].concat()).status.code(), Some(2), "{wrong:?}");
    }
}
