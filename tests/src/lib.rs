//! End-to-end, model, concurrency and corruption tests.
