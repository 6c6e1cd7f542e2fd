//! Stored points whose vectors are queries.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tarn_model::{Attributes, PointKey, ValidationError, Vector};

use super::rounds::Rounds;
use crate::definition::Definition;
use crate::error::SearchError;
use crate::leaf::LeafHit;
use crate::request::SearchRequest;
use crate::round::Round;
use crate::snapshot::Snapshot;

impl Rounds<'_> {
    /// The vectors of stored points. From now on the points are left out of every list.
    ///
    /// One search among these points alone, whatever the filters of the search say: they are a question here, not an answer.
    pub(super) async fn stored(
        &mut self,
        snapshot: &Arc<Snapshot>,
        request: &SearchRequest,
        ids: &[Attributes],
    ) -> Result<Vec<Vector>, SearchError> {
        if ids.is_empty() {
            return Ok(Vec::new());
        }
        let source = &snapshot.definition.source;
        let keys: Vec<Vec<u8>> =
            ids.iter().map(|id| PointKey::encode(source, id).map(|key| key.0)).collect::<Result<_, _>>()?;
        let wanted: BTreeSet<Vec<u8>> = keys.iter().cloned().collect();
        let lookup = Arc::new(SearchRequest {
            split_filter: split_of_all(&snapshot.definition, ids),
            attributes: Some(Vec::new()),
            retrieve_vectors: true,
            // All cells with one of the rows, and no others: ranges of a file that stays where it is answer for these.
            nprobe: Some(wanted.len() as u32),
            explain: request.explain,
            alive_at: request.alive_at,
            deadline: request.deadline,
            round: Some(Box::new(Round { filter: None, keys: Some(wanted.iter().cloned().collect()) })),
            ..SearchRequest::new(vec![source.zero_vector()], wanted.len() as u32)
        });
        let found = self.search(snapshot, &lookup).await?.pop().unwrap_or_default();
        let found: HashMap<Vec<u8>, Option<Vector>> =
            found.into_iter().map(|LeafHit { key, found }| (key, found.vector)).collect();
        let mut vectors = Vec::with_capacity(ids.len());
        for (at, key) in keys.iter().enumerate() {
            match found.get(key) {
                Some(vector) => vectors.extend(vector.clone()),
                // There is no telling "not there" from "not yet".
                None if self.is_cut() => return Err(SearchError::Late("the points of queryIds were found")),
                None => {
                    let message = format!("queryIds[{at}]: the index has no such point");
                    return Err(SearchError::Invalid(ValidationError::one(message)));
                }
            }
        }
        self.left_out = Arc::new(wanted);
        Ok(vectors)
    }
}

/// The split attributes in which all of the points agree.
fn split_of_all(definition: &Definition, ids: &[Attributes]) -> Attributes {
    let Some((first, others)) = ids.split_first() else { return Attributes::new() };
    let names = definition.index.split_attributes.iter();
    let same = names.filter_map(|name| Some((name.clone(), first.get(name)?.clone())));
    same.filter(|(name, value)| others.iter().all(|id| id.get(name) == Some(value))).collect()
}
