//! How two definitions differ, for people.

use serde::Serialize;
use serde_json::Value;

/// One message for each property that differs: what is stored and what the request says. The definitions are compared
/// as the JSON that people write.
pub(super) fn differences<T: Serialize>(stored: Option<&T>, requested: &T) -> Vec<String> {
    let (Some(Ok(Value::Object(stored))), Ok(Value::Object(requested))) =
        (stored.map(serde_json::to_value), serde_json::to_value(requested))
    else {
        return Vec::new();
    };
    let mut names: Vec<&String> = stored.keys().chain(requested.keys()).collect();
    names.sort_unstable();
    names.dedup();
    let null = Value::Null;
    let mut messages = Vec::new();
    for name in names {
        let (old, new) = (stored.get(name).unwrap_or(&null), requested.get(name).unwrap_or(&null));
        if old != new {
            messages.push(format!("{name} is {}, the request says {}", excerpt(old), excerpt(new)));
        }
    }
    messages
}

fn excerpt(value: &Value) -> String {
    let text = value.to_string();
    if text.chars().count() <= 300 { text } else { text.chars().take(300).chain("…".chars()).collect() }
}
