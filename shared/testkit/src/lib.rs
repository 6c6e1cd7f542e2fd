//! Fixtures, the reference model, fault injection and a manual clock for tests.
