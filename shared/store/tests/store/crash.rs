//! `acknowledged-means-durable`, as far as a test can kill: writers that die by SIGKILL at any moment.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use tarn_model::{KeyPrefix, ObjectKey};
use tarn_store::{Created, Store};

use crate::{delta, source};

const DIRECTORY: &str = "TARN_CRASH_DIRECTORY";
const BYTES: usize = 300_000;
const KILLS: usize = 12;

/// Content that shows whether it is whole.
fn content(sequence: u64) -> Vec<u8> {
    let mut bytes: Vec<u8> = (0..BYTES as u64).map(|i| (i * sequence % 251) as u8).collect();
    bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

#[tokio::test]
#[ignore = "the process that the next test kills"]
async fn writer_until_killed() {
    let directory = std::env::var(DIRECTORY).expect("the directory to write to");
    let store = Store::disk(Path::new(&directory)).expect("a store");
    let last = store.list(&KeyPrefix::Timeline(source("s"), 0)).await.expect("list").len() as u64;
    for sequence in last + 1.. {
        let bytes = bytes::Bytes::from(content(sequence));
        let created = store.create(&delta(sequence), bytes.clone(), |found| *found == bytes).await.expect("create");
        assert_eq!(created, Created::Ours);
        println!("\nacknowledged {sequence}");
    }
}

#[tokio::test]
async fn a_killed_writer_leaves_whole_objects_and_no_debris() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mut acknowledged = 0;
    for kill in 0..KILLS {
        let mut writer = Command::new(std::env::current_exe().expect("this program"))
            .args(["--exact", "crash::writer_until_killed", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("a writer");
        let lines = BufReader::new(writer.stdout.take().expect("its output")).lines();
        // A different number of writes each time, so that it dies at different moments of one.
        let mut left = kill % 4 + 1;
        for line in lines {
            let Some(sequence) = line.expect("a line").strip_prefix("acknowledged ").map(str::to_owned) else {
                continue;
            };
            acknowledged = sequence.parse::<u64>().expect("a number");
            left -= 1;
            if left == 0 {
                break;
            }
        }
        assert_eq!(left, 0, "the writer ended by itself");
        writer.kill().expect("kill");
        writer.wait().expect("wait");

        let store = Store::disk(directory.path()).expect("the store opens");
        let staged = std::fs::read_dir(directory.path().join(".staging")).expect("staging").count();
        assert_eq!(staged, 0, "opening sweeps what the writer left");
        let listed = store.list(&KeyPrefix::All).await.expect("list");
        assert!(listed.len() as u64 >= acknowledged, "{acknowledged} were acknowledged, {} are there", listed.len());
        for (listed, expected) in listed.iter().zip(1..) {
            let Some(ObjectKey::Delta { sequence, .. }) = listed.key else { panic!("a foreign object: {listed:?}") };
            assert_eq!(sequence, expected, "no gap");
            let bytes = store.get(&delta(sequence)).await.expect("get").expect("there");
            assert!(bytes == content(sequence), "{sequence} is whole");
        }
    }
}
