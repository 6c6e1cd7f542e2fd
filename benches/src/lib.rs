//! Benchmarks that support the figures in docs/performance.md.
