//! What always holds, as pure functions with readable ids.
//!
//! Each is called before a write and after a read. The id appears in the [`Corrupt`] error's `part`, in
//! `docs/invariants.md` and in the name of a test. Not here: the invariants that need data to check, such as
//! `checkpoint-equals-fold`; the crate that has the data owns those.

use std::fmt;

use crate::error::Corrupt;
use crate::token::ReadToken;

/// An invariant of the durable roots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Invariant {
    /// A root's generation (or number) is its predecessor's plus one; the first is 1.
    GenerationFollowsPredecessor,
    /// In every lane, a root's watermark is at or after its predecessor's.
    WatermarkNeverRegresses,
    /// GC never takes back leave to delete.
    BoundaryNeverRegresses,
    /// The rows of the parts are the rows of the whole.
    RowsAddUp,
    /// The shards of a manifest are sorted by id, each once.
    ShardsAreSorted,
}

impl Invariant {
    /// The readable id.
    pub fn id(self) -> &'static str {
        match self {
            Self::GenerationFollowsPredecessor => "generation-follows-predecessor",
            Self::WatermarkNeverRegresses => "watermark-never-regresses",
            Self::BoundaryNeverRegresses => "boundary-never-regresses",
            Self::RowsAddUp => "rows-add-up",
            Self::ShardsAreSorted => "shards-are-sorted",
        }
    }
}

impl fmt::Display for Invariant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.id())
    }
}

/// An invariant that does not hold, before it is known in which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Broken {
    invariant: Invariant,
    expected: String,
    found: String,
}

impl Broken {
    pub(crate) fn new(invariant: Invariant, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { invariant, expected: expected.into(), found: found.into() }
    }

    pub(crate) fn in_object(self, object: &str) -> Corrupt {
        Corrupt {
            object: object.to_owned(),
            part: self.invariant.id().to_owned(),
            expected: self.expected,
            found: self.found,
        }
    }
}

/// `generation-follows-predecessor`.
pub(crate) fn check_follows(predecessor: Option<u64>, generation: u64) -> Result<(), Broken> {
    let expected = predecessor.unwrap_or(0).checked_add(1);
    if expected == Some(generation) {
        return Ok(());
    }
    let expected = expected.map_or_else(|| "nothing after the last generation".to_owned(), |next| next.to_string());
    Err(Broken::new(Invariant::GenerationFollowsPredecessor, expected, generation.to_string()))
}

/// `generation-follows-predecessor` and `watermark-never-regresses`.
pub(crate) fn check_succession(
    predecessor: Option<(u64, &ReadToken)>,
    successor: (u64, &ReadToken),
) -> Result<(), Broken> {
    check_follows(predecessor.map(|(generation, _)| generation), successor.0)?;
    match predecessor {
        Some((_, before)) if !successor.1.includes(before) => {
            Err(Broken::new(Invariant::WatermarkNeverRegresses, format!("{before} or later"), successor.1.to_string()))
        }
        _ => Ok(()),
    }
}

/// `boundary-never-regresses`.
pub(crate) fn check_boundary(predecessor: (&ReadToken, u64), successor: (&ReadToken, u64)) -> Result<(), Broken> {
    if successor.0.includes(predecessor.0) && successor.1 >= predecessor.1 {
        return Ok(());
    }
    Err(Broken::new(
        Invariant::BoundaryNeverRegresses,
        format!("timeline {} and generation {}, or later", predecessor.0, predecessor.1),
        format!("timeline {} and generation {}", successor.0, successor.1),
    ))
}

/// `rows-add-up`.
pub(crate) fn check_rows_add_up(whole: u64, parts: impl IntoIterator<Item = u64>) -> Result<(), Broken> {
    let sum = parts.into_iter().try_fold(0_u64, u64::checked_add);
    if sum == Some(whole) {
        return Ok(());
    }
    let found = sum.map_or_else(|| "more than fits".to_owned(), |sum| sum.to_string());
    Err(Broken::new(Invariant::RowsAddUp, format!("{whole} rows in all parts together"), found))
}

/// `shards-are-sorted`.
pub(crate) fn check_shards_are_sorted<'a>(ids: impl IntoIterator<Item = &'a str>) -> Result<(), Broken> {
    let ids: Vec<&str> = ids.into_iter().collect();
    match ids.windows(2).find(|pair| pair[0] >= pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Broken::new(
            Invariant::ShardsAreSorted,
            format!("a shard after '{}'", pair[0]),
            format!("'{}'", pair[1]),
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn invariant(result: Result<(), Broken>) -> Option<&'static str> {
        result.err().map(|broken| broken.invariant.id())
    }

    #[test]
    fn generation_follows_predecessor() {
        let id = Some("generation-follows-predecessor");
        assert_eq!(invariant(check_follows(None, 1)), None);
        assert_eq!(invariant(check_follows(Some(7), 8)), None);
        for (predecessor, generation) in [(None, 0), (None, 2), (Some(7), 7), (Some(7), 9), (Some(u64::MAX), 0)] {
            assert_eq!(invariant(check_follows(predecessor, generation)), id);
        }
    }

    #[test]
    fn watermark_never_regresses() {
        let (early, late) = (ReadToken::single(4), ReadToken::single(5));
        assert_eq!(invariant(check_succession(None, (1, &ReadToken::default()))), None);
        assert_eq!(invariant(check_succession(Some((1, &early)), (2, &late))), None);
        assert_eq!(invariant(check_succession(Some((1, &late)), (2, &late))), None);
        for token in [&early, &ReadToken::default()] {
            assert_eq!(invariant(check_succession(Some((1, &late)), (2, token))), Some("watermark-never-regresses"));
        }
    }

    #[test]
    fn boundary_never_regresses() {
        let (early, late) = (ReadToken::single(4), ReadToken::single(5));
        assert_eq!(invariant(check_boundary((&early, 3), (&late, 3))), None);
        assert_eq!(invariant(check_boundary((&late, 3), (&early, 4))), Some("boundary-never-regresses"));
        assert_eq!(invariant(check_boundary((&early, 3), (&late, 2))), Some("boundary-never-regresses"));
    }

    #[test]
    fn rows_add_up() {
        assert_eq!(invariant(check_rows_add_up(0, [])), None);
        assert_eq!(invariant(check_rows_add_up(5, [2, 3])), None);
        assert_eq!(invariant(check_rows_add_up(5, [2, 2])), Some("rows-add-up"));
        assert_eq!(invariant(check_rows_add_up(1, [u64::MAX, 2])), Some("rows-add-up"));
    }

    #[test]
    fn shards_are_sorted() {
        assert_eq!(invariant(check_shards_are_sorted([])), None);
        assert_eq!(invariant(check_shards_are_sorted(["a", "b"])), None);
        assert_eq!(invariant(check_shards_are_sorted(["b", "a"])), Some("shards-are-sorted"));
        assert_eq!(invariant(check_shards_are_sorted(["a", "a"])), Some("shards-are-sorted"));
    }
}
