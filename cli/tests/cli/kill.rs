//! kill -9: every upload that got its 200 is there after the next start, and the store is sound.
//!
//! Each writer owns some keys and overwrites or deletes them, one request after the other; and every upload also writes a
//! witness, a key that nobody ever touches again, so that each acknowledged upload is looked for and not only the last
//! of each key. What a request did whose answer was lost is unknown until the next start settles it; everything else is
//! known exactly.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use reqwest::Client;
use serde_json::{Value as Json, json};
use tokio::sync::Mutex;

use crate::serve::{client, define, point, query};
use crate::support::{Serving, json as tarn};

const ROUNDS: u32 = 50;
const WRITERS: u64 = 4;
const KEYS_PER_WRITER: u32 = 24;
/// Longest life of a server after its first answer, in milliseconds.
const LIFE_MS: u64 = 250;

/// The most neighbours that a search may ask for; the test writes fewer points.
const K: u32 = 10_000;

/// What a key may hold: a counter, or nothing.
type Value = Option<i64>;

/// The states that are possible for each key. One: known. Several: the last answers were lost.
#[derive(Debug, Default)]
struct Expected {
    keys: BTreeMap<String, BTreeSet<Value>>,
    acknowledged: u64,
    lost: u64,
}

impl Expected {
    fn began(&mut self, batch: &BTreeMap<String, Value>) {
        for (key, value) in batch {
            self.keys.entry(key.clone()).or_insert_with(|| [None].into()).insert(*value);
        }
    }

    fn answered(&mut self, batch: BTreeMap<String, Value>) {
        self.acknowledged += 1;
        for (key, value) in batch {
            self.keys.insert(key, [value].into());
        }
    }

    /// Every key is as it may be; what is found now is what it must be from now on, because no request is under way.
    fn check(&mut self, found: &BTreeMap<String, i64>) {
        for (key, possible) in &mut self.keys {
            let value = found.get(key).copied();
            assert!(possible.contains(&value), "{key} is {value:?}, must be one of {possible:?}");
            *possible = [value].into();
        }
        assert!(found.keys().all(|key| self.keys.contains_key(key)), "found what nobody wrote: {found:?}");
    }
}

/// Uploads until the server is gone.
async fn write(http: Client, url: String, writer: u64, seed: u64, counter: Arc<Mutex<(i64, Expected)>>) {
    let mut rng = StdRng::seed_from_u64(seed);
    loop {
        let mut batch = BTreeMap::new();
        {
            let mut shared = counter.lock().await;
            for _ in 0..rng.random_range(1..=6) {
                shared.0 += 1;
                let key = format!("w{writer}-{}", rng.random_range(0..KEYS_PER_WRITER));
                batch.insert(key, if rng.random_bool(0.3) { None } else { Some(shared.0) });
            }
            batch.insert(format!("witness-{}", shared.0), Some(shared.0));
            shared.1.began(&batch);
        }
        let body: Vec<Json> = batch.iter().map(|(key, value)| update(key, *value)).collect();
        let sent = http.post(format!("{url}/api/v1/upload/docs/1.0")).json(&body).send().await;
        match sent {
            Ok(response) => {
                let status = response.status();
                assert!(status.is_success(), "{status}: {}", response.text().await.unwrap_or_default());
                counter.lock().await.1.answered(batch);
            }
            Err(_) => {
                counter.lock().await.1.lost += 1;
                return;
            }
        }
    }
}

fn update(key: &str, value: Value) -> Json {
    match value {
        Some(n) => point(key, n),
        None => json!({ "attributes": [{ "key": "id", "value": { "string": key } }], "isDeleted": true }),
    }
}

async fn everything(http: &Client, url: &str) -> BTreeMap<String, i64> {
    let response = http.post(format!("{url}/api/v1/search/docs/1.0")).json(&query(K)).send().await.unwrap();
    let found: Json = response.error_for_status().unwrap().json().await.unwrap();
    let points = found[0]["nearestDataPoints"].as_array().unwrap();
    assert!(points.len() < K as usize, "there are more points than one search shows");
    let value = |point: &Json, key: &str, kind: &str| {
        let attributes = point["attributes"].as_array().unwrap();
        attributes.iter().find(|attribute| attribute["key"] == key).unwrap()["value"][kind].clone()
    };
    points
        .iter()
        .map(|point| {
            (value(point, "id", "string").as_str().unwrap().to_owned(), value(point, "n", "int64").as_i64().unwrap())
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_uploads_survive_kill_9() {
    let seed = std::env::var("TARN_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(20_260_101);
    println!("TARN_SEED={seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    let dir = tempfile::tempdir().unwrap();
    let start = || Serving::start(dir.path(), &["--build-interval", "50ms", "--build-after", "8"]);
    let shared = Arc::new(Mutex::new((0, Expected::default())));
    for round in 0..ROUNDS {
        let server = start();
        // A client of its own each time: connections to the last server are of no use.
        let http = client();
        if round == 0 {
            define(&http, &server.url).await;
        }
        shared.lock().await.1.check(&everything(&http, &server.url).await);
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| tokio::spawn(write(http.clone(), server.url.clone(), writer, rng.random(), shared.clone())))
            .collect();
        tokio::time::sleep(Duration::from_millis(rng.random_range(1..LIFE_MS))).await;
        server.kill();
        for writer in writers {
            writer.await.unwrap();
        }
    }
    let mut shared = shared.lock().await;
    println!("{} uploads acknowledged, {} answers lost", shared.1.acknowledged, shared.1.lost);
    assert!(shared.1.acknowledged > u64::from(ROUNDS), "the writers hardly wrote");
    assert!(shared.1.lost > u64::from(ROUNDS), "hardly any request was cut off");
    let witnesses = |of: &Expected| of.keys.keys().filter(|key| key.starts_with("witness-")).count() as u64;
    assert_eq!(witnesses(&shared.1), shared.1.acknowledged + shared.1.lost, "one witness for each upload");

    assert_eq!(tarn(dir.path(), &["verify"])["problems"], json!([]));
    assert_eq!(tarn(dir.path(), &["build"])["failures"], 0);
    let server = start();
    shared.1.check(&everything(&client(), &server.url).await);
    assert!(server.terminate().success());
    assert_eq!(tarn(dir.path(), &["verify"])["problems"], json!([]));
}
