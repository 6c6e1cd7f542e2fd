//! The builder: folds the timeline, builds indices, publishes.

fn main() {}
