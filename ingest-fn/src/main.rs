//! The upload function: HTTP API events to the ingest router.

fn main() {}
