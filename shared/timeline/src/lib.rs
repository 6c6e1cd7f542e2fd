//! The delta codec, append with group commit, receipts, and the tail.
