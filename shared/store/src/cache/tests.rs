//! Specification of the segment cache: verification, bounds, single flight, restarts.
