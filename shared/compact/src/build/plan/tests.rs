//! Tables of shards and what is built in them.
