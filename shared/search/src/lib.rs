//! Snapshots, plans, leaf search and the merge.
