//! Rounds until there are enough groups, and enough points of each.
//!
//! A list for groups is asked for again, longer and without the groups that are known, while there are too few; then groups are
//! completed. Rounds end early at the deadline, after so many of them, and where leaves cannot answer so long a list; the answer
//! then says that it is not complete.

use tarn_model::{Filter, VectorKind, limits};

use super::rounds::Rounds;
use crate::error::SearchError;
use crate::shape::{
    Combine, FoundGroups, Gathered, GroupScore, Grouping, Hit, Line, List, ROUNDS, among, groups_among, not_among,
};

/// Most coordinates that a round brings, when it brings vectors: half a gigabyte.
const ROUND_COORDINATES: usize = 1 << 27;

impl Rounds<'_> {
    /// The groups of one line, and their points.
    pub(super) async fn grouped(
        &mut self,
        line: &Line,
        grouping: &Grouping,
        k: usize,
        wanted: usize,
    ) -> Result<(Vec<Hit>, FoundGroups), SearchError> {
        let order = line.order(self.order(0));
        let deepest = self.deepest(line).max(k);
        // Places are of the whole list: one without some of the points has others.
        let deepens = line.fuse != Combine::ReciprocalRank;
        let mut gathered = Gathered::default();
        let line = std::slice::from_ref(line);
        let first = self.lists(line, None, k).await?.pop().unwrap_or_default();
        let mut is_all = first.is_all;
        let near = groups_among(&first.hits[..k.min(first.hits.len())], &grouping.by);
        gathered.append(first, grouping);
        let candidates = near.max(wanted);
        let (mut depth, mut rounds) = (k, 1);
        while deepens && !is_all && gathered.len() < wanted && !self.is_cut() && rounds < ROUNDS {
            depth = depth.saturating_mul(2).min(deepest);
            rounds += 1;
            let others = not_among(&grouping.by, gathered.values());
            let Some(list) = self.longer(line, &others, depth).await? else { break };
            is_all = list.is_all;
            gathered.append(list, grouping);
        }
        let mut complete = is_all || gathered.len() >= wanted;
        gathered.keep(match grouping.score {
            // No other group can be among the best.
            GroupScore::Best => wanted,
            _ => candidates,
        });
        let at_once = (deepest / grouping.limit.max(1) as usize).max(1);
        let mut rounds = 0;
        loop {
            let partial = gathered.partial(at_once);
            if partial.is_empty() {
                break;
            }
            if !deepens || self.is_cut() || rounds >= ROUNDS {
                complete = false;
                break;
            }
            rounds += 1;
            // Longer every time, for one group may have nearly all of the nearest.
            let depth = (partial.len() * grouping.limit as usize).saturating_mul(1 << rounds.min(16)).min(deepest);
            let those = among(&grouping.by, partial.clone());
            // So many points cannot all be of groups that have fewer than the limit, unless the search missed some.
            let is_progress = match self.longer(line, &those, depth).await? {
                Some(list) => gathered.replace(&partial, list, grouping),
                None => false,
            };
            if !is_progress {
                complete = false;
                break;
            }
        }
        let (hits, groups) = gathered.ranked(grouping.score, order, wanted);
        Ok((hits, FoundGroups { groups, complete: complete && !self.is_cut() }))
    }

    /// The longest list that a round may ask for, for each vector of a line.
    fn deepest(&self, line: &Line) -> usize {
        let vectors: usize = line.parts.iter().map(|part| part.vectors(&self.context).count()).sum();
        let coordinates = self.sides.iter().filter(|side| side.plain.retrieve_vectors).map(|side| {
            let source = &side.snapshot.definition.source;
            // What sparse vectors have is not known before.
            if source.vector_kind == VectorKind::Dense { source.vector_dimension as usize } else { 1 }
        });
        let points = coordinates.max().map_or(usize::MAX, |coordinates| ROUND_COORDINATES / coordinates.max(1));
        let points = points.min(limits::RESULTS as usize);
        (limits::K as usize - self.left_out.len()).min(points / vectors.max(1))
    }

    /// A list beyond the first of a line. `None`: it is longer than leaves can answer.
    async fn longer(&mut self, line: &[Line], more: &Filter, depth: usize) -> Result<Option<List>, SearchError> {
        match self.lists(line, Some(more), depth).await {
            Ok(mut lists) => Ok(lists.pop()),
            // The first list was asked for with the same vectors and filters: what is wrong with this one is its length.
            Err(SearchError::Invalid(_)) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
