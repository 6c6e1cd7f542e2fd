//! Groups of shards: how a search is cut for leaves.

use std::collections::BTreeSet;

use crate::plan::{Origin, Unit};
use crate::snapshot::Snapshot;

/// Some shards that one leaf searches.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Group {
    /// The shards, by position.
    pub(crate) shards: BTreeSet<u32>,
    /// Bytes of the files that a leaf needs for them.
    bytes: u64,
    /// Rows in question, live as far as the catalogs know.
    pub(crate) rows: u64,
}

/// The files of a plan in groups of about `leaf_bytes`, at most `leaves_max` of them; and what else was planned. A shard is
/// in one group. The same plan makes the same groups, so that leaves find in their caches what they had before.
pub(crate) fn groups(
    snapshot: &Snapshot,
    units: &[Unit],
    leaf_bytes: u64,
    leaves_max: usize,
) -> (Vec<Group>, Vec<Unit>) {
    let mut shards: Vec<Group> = Vec::new();
    let mut others = Vec::new();
    for unit in units {
        let (shard, segment) = match unit.origin {
            Origin::Base { shard, segment } => (shard, segment),
            Origin::Tail(_) => {
                others.push(unit.clone());
                continue;
            }
        };
        let Some(base) = snapshot.base(shard, segment) else { continue };
        // Units come shard by shard.
        if shards.last().is_none_or(|last| !last.shards.contains(&shard)) {
            shards.push(Group { shards: BTreeSet::from([shard]), ..Group::default() });
        }
        if let Some(last) = shards.last_mut() {
            last.bytes += base.file.object.bytes;
            last.rows += base.live_in(&unit.ranges);
        }
    }
    (gather(shards, leaf_bytes, leaves_max), others)
}

/// Neighbours in one group while they fit, beginning with one shard in each.
fn gather(shards: Vec<Group>, leaf_bytes: u64, leaves_max: usize) -> Vec<Group> {
    let total: u64 = shards.iter().map(|shard| shard.bytes).sum();
    let most = leaves_max.max(1);
    let target = leaf_bytes.max(total.div_ceil(most as u64));
    let mut groups: Vec<Group> = Vec::new();
    for shard in shards {
        let last_one = groups.len() >= most;
        match groups.last_mut() {
            // Whole shards do not divide evenly: the last group takes what is left over.
            Some(group) if last_one || group.bytes + shard.bytes <= target => {
                group.shards.extend(shard.shards);
                group.bytes += shard.bytes;
                group.rows += shard.rows;
            }
            _ => groups.push(shard),
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shards(sizes: &[u64]) -> Vec<Group> {
        let shard = |(shard, &bytes)| Group { shards: BTreeSet::from([shard]), bytes, rows: 1 };
        (0u32..).zip(sizes).map(shard).collect()
    }

    fn sizes(groups: &[Group]) -> Vec<u64> {
        groups.iter().map(|group| group.bytes).collect()
    }

    #[test]
    fn neighbours_share_a_leaf_while_they_fit() {
        let groups = gather(shards(&[4, 5, 2, 20, 1]), 10, 64);
        assert_eq!(sizes(&groups), [9, 2, 20, 1]);
        assert_eq!(groups[0].shards, BTreeSet::from([0, 1]));
        assert_eq!(groups[0].rows, 2);
        assert_eq!(sizes(&gather(shards(&[4, 5]), 10, 64)), [9], "all in one");
        assert!(gather(Vec::new(), 10, 64).is_empty());
    }

    #[test]
    fn there_are_never_more_groups_than_leaves() {
        for most in 1..20 {
            let groups = gather(shards(&[7, 3, 3, 9, 1, 1, 1, 8, 2, 2, 6, 5]), 1, most);
            assert!(groups.len() <= most, "{groups:?}");
            assert_eq!(groups.iter().map(|group| group.shards.len()).sum::<usize>(), 12);
        }
    }
}
