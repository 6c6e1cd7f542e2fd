//! Which files or segments to merge: size tiers, as in a log-structured merge tree.
//!
//! Runs whose live bytes lie between two powers of `fan` form a tier; a tier with `fan` runs is merged into one run, which
//! falls into a higher tier and may complete that. So a row is rewritten once per tier, and what exists is left alone
//! until as much has changed: the cost of a build grows with what changed. A run with too many dead rows is
//! rewritten by itself. A full run is merged no more.
//!
//! A pure function of sizes; it knows neither files nor segments.

use std::collections::BTreeMap;

/// Runs below this size are one tier.
const SMALL_BYTES: u64 = 1 << 20;

/// A file or segment, by size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// Bytes of live rows.
    pub(crate) live: u64,
    /// Bytes of dead rows.
    pub(crate) dead: u64,
}

/// When to merge.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MergePolicy {
    /// At least 2.
    pub(crate) fan: usize,
    /// A run with a larger share of dead bytes is rewritten.
    pub(crate) dead_percent_max: u8,
    /// A run with at least this many live bytes is full.
    pub(crate) full: u64,
}

impl Run {
    /// A run of `rows` rows, of which `dead` are dead, in `bytes` bytes.
    pub(crate) fn of(bytes: u64, rows: u64, dead: u64) -> Self {
        let share = |part: u64| u64::try_from(u128::from(bytes) * u128::from(part) / u128::from(rows.max(1)));
        let dead = share(dead).unwrap_or(bytes);
        Self { live: bytes.saturating_sub(dead), dead }
    }

    fn is_stale(self, policy: &MergePolicy) -> bool {
        u128::from(self.dead) * 100
            > (u128::from(self.live) + u128::from(self.dead)) * u128::from(policy.dead_percent_max)
    }
}

/// Groups of runs to merge, each group into one new run; a group of one is rewritten without its dead rows. No run is in
/// two groups; runs in none stay as they are.
pub(crate) fn plan_merges(runs: &[Run], policy: &MergePolicy) -> Vec<Vec<usize>> {
    let mut tiers: BTreeMap<u32, Vec<(u64, Vec<usize>)>> = BTreeMap::new();
    let mut groups = Vec::new();
    for (i, run) in runs.iter().enumerate() {
        if run.live >= policy.full {
            groups.push(vec![i]);
        } else {
            tiers.entry(tier(run.live, policy.fan)).or_default().push((run.live, vec![i]));
        }
    }
    while let Some((number, group)) = tiers.pop_first() {
        if group.len() < policy.fan.max(2) {
            groups.extend(group.into_iter().map(|(_, members)| members));
            continue;
        }
        let live = group.iter().fold(0_u64, |sum, (live, _)| sum.saturating_add(*live));
        let members = group.into_iter().flat_map(|(_, members)| members).collect();
        if live >= policy.full {
            groups.push(members);
        } else {
            // Never a lower tier than the one just completed, so the loop ends.
            tiers.entry(tier(live, policy.fan).max(number)).or_default().push((live, members));
        }
    }
    groups.retain(|members| members.len() > 1 || members.iter().any(|&i| runs[i].is_stale(policy)));
    for members in &mut groups {
        members.sort_unstable();
    }
    groups.sort_unstable();
    groups
}

fn tier(live: u64, fan: usize) -> u32 {
    (live / SMALL_BYTES).checked_ilog(fan.max(2) as u64).map_or(0, |power| power + 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const M: u64 = SMALL_BYTES;
    const POLICY: MergePolicy = MergePolicy { fan: 4, dead_percent_max: 40, full: 1000 * M };

    fn plan(runs: &[(u64, u64)]) -> Vec<Vec<usize>> {
        let runs: Vec<Run> = runs.iter().map(|&(live, dead)| Run { live, dead }).collect();
        plan_merges(&runs, &POLICY)
    }

    #[test]
    fn merges_are_planned_by_size_and_dead_share() {
        let none: Vec<Vec<usize>> = Vec::new();
        // What there is (live, dead), and which runs become one.
        type Case<'a> = (&'a str, &'a [(u64, u64)], Vec<Vec<usize>>);
        let table: &[Case<'_>] = &[
            ("nothing", &[], none.clone()),
            ("three of a size wait for a fourth", &[(10, 0); 3], none.clone()),
            ("four of a size merge", &[(10, 0); 4], vec![vec![0, 1, 2, 3]]),
            ("small ones are one size", &[(1, 0), (M - 1, 0), (300, 0), (5, 0)], vec![vec![0, 1, 2, 3]]),
            ("a large one is left alone", &[(100 * M, 0), (10, 0), (10, 0), (10, 0)], none.clone()),
            (
                "a large one is left alone while small ones merge",
                &[(100 * M, 0), (10, 0), (10, 0), (10, 0), (10, 0)],
                vec![vec![1, 2, 3, 4]],
            ),
            (
                "a merge completes the next tier",
                &[(2 * M, 0), (2 * M, 0), (2 * M, 0), (M / 2, 0), (M / 2, 0), (M / 2, 0), (M / 2, 0)],
                vec![vec![0, 1, 2, 3, 4, 5, 6]],
            ),
            ("dead rows are written off", &[(10, 0), (59, 41)], vec![vec![1]]),
            ("a few dead rows are kept", &[(10, 0), (60, 40)], none.clone()),
            ("nothing but dead rows go", &[(0, 7)], vec![vec![0]]),
            ("full runs never merge", &[(1000 * M, 0); 8], none.clone()),
            ("a full run with many dead rows is rewritten", &[(1000 * M, 1000 * M)], vec![vec![0]]),
        ];
        for (what, runs, expected) in table {
            assert_eq!(&plan(runs), expected, "{what}");
        }
    }

    #[test]
    fn many_small_builds_leave_few_runs_and_rewrite_a_row_once_per_tier() {
        let (mut runs, mut written) = (Vec::<Run>::new(), 0);
        let (builds, size) = (4096_u64, M / 4);
        for _ in 0..builds {
            runs.push(Run { live: size, dead: 0 });
            written += size;
            for group in plan_merges(&runs, &POLICY).into_iter().rev() {
                let live = group.iter().map(|&i| runs[i].live).sum();
                written += live;
                for &i in group.iter().rev() {
                    runs.remove(i);
                }
                runs.push(Run { live, dead: 0 });
            }
        }
        assert_eq!(runs.iter().map(|run| run.live).sum::<u64>(), builds * size);
        assert!(runs.len() <= 24, "{} runs", runs.len());
        assert!(written <= 8 * builds * size, "each byte was written {} times", written / (builds * size));
    }

    proptest! {
        #[test]
        fn a_plan_names_each_run_at_most_once(runs in proptest::collection::vec((0..2000 * M, 0..2000 * M), 0..40)) {
            let mut named: Vec<usize> = plan(&runs).into_iter().flatten().collect();
            let all = named.len();
            named.sort_unstable();
            named.dedup();
            prop_assert_eq!(named.len(), all);
            prop_assert!(named.iter().all(|&i| i < runs.len()));
        }

        #[test]
        fn a_plan_leaves_nothing_to_merge(runs in proptest::collection::vec((0..2000 * M, 0..2000 * M), 0..40)) {
            let runs: Vec<Run> = runs.iter().map(|&(live, dead)| Run { live, dead }).collect();
            let groups = plan_merges(&runs, &POLICY);
            let merged: Vec<usize> = groups.iter().flatten().copied().collect();
            let mut after: Vec<Run> = (0..runs.len()).filter(|i| !merged.contains(i)).map(|i| runs[i]).collect();
            for group in &groups {
                let live: u64 = group.iter().map(|&i| runs[i].live).sum();
                if live > 0 {
                    after.push(Run { live, dead: 0 });
                }
            }
            prop_assert_eq!(plan_merges(&after, &POLICY), Vec::<Vec<usize>>::new());
        }
    }
}
