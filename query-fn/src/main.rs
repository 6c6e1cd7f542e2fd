//! The search function: HTTP API events to the query router.

fn main() {}
