//! Segment files: flat, graph and sparse, their scorers and their checksums. The only unsafe code.
