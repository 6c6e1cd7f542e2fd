//! SQS messages whose bodies are S3 notifications, and what is answered to them.
//!
//! Decodes and encodes; what is done with a file is the drop folder's. A message that failed, or for which there was no time, is
//! named in the answer and so delivered again; after too many times it goes to the dead-letter queue. A message that cannot be
//! understood takes the same way: nobody must lose it unseen.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use tarn_drop::{DropFolder, Outcome};

/// Some messages of a queue.
#[derive(Debug, Deserialize)]
pub(crate) struct SqsEvent {
    #[serde(rename = "Records", default)]
    pub(crate) records: Vec<SqsMessage>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SqsMessage {
    pub(crate) message_id: String,
    #[serde(default)]
    pub(crate) body: String,
}

/// The messages that are to be delivered again.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct BatchResponse {
    pub(crate) batch_item_failures: Vec<ItemFailure>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ItemFailure {
    pub(crate) item_identifier: String,
}

#[derive(Debug, Deserialize)]
struct Notification {
    /// Set in the message that S3 sends when notifications are set up.
    #[serde(rename = "Event")]
    event: Option<String>,
    #[serde(rename = "Records")]
    records: Option<Vec<S3Record>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3Record {
    #[serde(default)]
    event_name: String,
    s3: S3Entity,
}

#[derive(Debug, Deserialize)]
struct S3Entity {
    bucket: S3Bucket,
    object: S3Object,
}

#[derive(Debug, Deserialize)]
struct S3Bucket {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct S3Object {
    key: String,
    version_id: Option<String>,
}

/// A file that a notification is about.
#[derive(Debug, PartialEq, Eq)]
struct Created {
    bucket: String,
    key: String,
    version: Option<String>,
}

/// Handles a batch of messages. `deadline` is a time of the store's monotonic clock.
pub(crate) async fn handle(folder: &DropFolder, event: SqsEvent, deadline: Duration) -> BatchResponse {
    let mut response = BatchResponse::default();
    for message in event.records {
        if !handle_message(folder, &message, deadline).await {
            response.batch_item_failures.push(ItemFailure { item_identifier: message.message_id });
        }
    }
    response
}

/// Whether the message is done with. A file that fails does not keep the message's others waiting.
async fn handle_message(folder: &DropFolder, message: &SqsMessage, deadline: Duration) -> bool {
    let created = match decode(&message.body) {
        Ok(created) => created,
        Err(error) => {
            tracing::error!(message = message.message_id, %error, "a message is no notification of S3");
            return false;
        }
    };
    let store = folder.store();
    let mut done = true;
    for file in created {
        if store.clock().monotonic() >= deadline {
            return false;
        }
        if store.bucket().is_some_and(|bucket| bucket.name != file.bucket) {
            tracing::error!(bucket = file.bucket, key = file.key, "a notification is about another bucket");
            done = false;
            continue;
        }
        let Some(key) = store.key_below_root(&file.key) else {
            tracing::warn!(key = file.key, "a notification is about an object outside the store");
            continue;
        };
        match folder.process(key, file.version.as_deref(), Some(deadline)).await {
            Ok(Outcome::Unfinished { rows }) => {
                tracing::info!(key, rows, "the time is up; the next delivery goes on");
                return false;
            }
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(key, %error, "a dropped file cannot be processed now");
                done = false;
            }
        }
    }
    done
}

/// The files that a message is about: none for the message that S3 sends as a test.
fn decode(body: &str) -> Result<Vec<Created>, String> {
    let notification: Notification = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let Some(records) = notification.records else {
        return match notification.event.as_deref() {
            Some("s3:TestEvent") => Ok(Vec::new()),
            _ => Err("it has no Records".to_owned()),
        };
    };
    // Some stores give events the names that they have where notifications are set up.
    let is_created = |record: &S3Record| record.event_name.trim_start_matches("s3:").starts_with("ObjectCreated:");
    let created = records.into_iter().filter(is_created);
    let file = |record: S3Record| {
        let S3Entity { bucket, object } = record.s3;
        let key = decode_key(&object.key).ok_or_else(|| format!("its key is not URL-encoded UTF-8: {}", object.key))?;
        // "null" is how S3 calls the version of an object that was written before versions were kept.
        let version = object.version_id.filter(|version| !version.is_empty() && version != "null");
        Ok(Created { bucket: bucket.name, key, version })
    };
    created.map(file).collect()
}

/// The inverse of how S3 encodes keys in notifications: `+` is a space, `%XX` a byte.
fn decode_key(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                let (high, low) = (digit()?, digit()?);
                u8::try_from(high << 4 | low).ok()?
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests;
