//! A store in a directory: what people put there is not what a store would.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use tarn_drop::{DropFolder, DropSettings, DropState, Watcher, list_drops};
use tarn_store::{Store, create_source};

use crate::support::{csv, films, updates};

#[tokio::test]
async fn names_that_are_no_keys_do_not_hide_the_others() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::disk(directory.path()).unwrap();
    create_source(&store, &Arc::new(films())).await.unwrap();
    let folder = directory.path().join("drop/films/1.0");
    fs::create_dir_all(folder.join("empty/folder")).unwrap();
    let names =
        ["a b.csv", "100%.csv", "%2e%2e.csv", "x+y?z=#.csv", "[~*\"].csv", "\u{1F600}.csv", "sub/x.csv", " .csv"];
    fs::create_dir_all(folder.join("sub")).unwrap();
    for name in names {
        fs::write(folder.join(name), csv(&updates(0..1))).unwrap();
    }
    for hostile in [&b"latin-\xe9.csv"[..], b"new\nline.csv", b"back\\slash.csv", b"del\x7f.csv"] {
        fs::write(folder.join(OsStr::from_bytes(hostile)), "x").unwrap();
    }
    std::os::unix::fs::symlink(".", folder.join("loop")).unwrap();
    std::os::unix::fs::symlink("/nowhere", folder.join("broken.csv")).unwrap();

    let mut watcher = Watcher::new(DropFolder::new(store.clone(), DropSettings::default()));
    watcher.look().await.unwrap();
    for seen in watcher.look().await.unwrap() {
        seen.outcome.unwrap();
    }
    let page = list_drops(&store, &films().id, 100, None).await.unwrap().unwrap();
    let mut committed: Vec<_> = page.entries.iter().map(|entry| (entry.path.as_str(), entry.state)).collect();
    committed.sort_unstable_by_key(|entry| entry.0);
    let mut expected = names.map(|name| (name, DropState::Committed));
    expected.sort_unstable_by_key(|entry| entry.0);
    assert_eq!(committed, expected);
}
