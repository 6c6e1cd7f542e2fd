//! The fold, index builds, publishing and garbage collection, on DataFusion.
