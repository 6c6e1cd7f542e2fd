//! Vector search with nothing running: the command line and the embedded server.

fn main() {}
