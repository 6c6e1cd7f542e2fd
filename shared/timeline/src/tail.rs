//! The tail: decoded deltas after a watermark, kept between queries.

use std::sync::Arc;
use std::time::Duration;

use tarn_model::ReadToken;

use crate::codec::Delta;
use crate::error::TimelineError;
use crate::timeline::Timeline;

/// How recent a tail must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Includes everything that was acknowledged before the call.
    Strong,
    /// Includes everything that was acknowledged this long before the call.
    Within(Duration),
}

/// The deltas after a watermark.
#[derive(Clone, Debug)]
pub struct Tail {
    /// In order of sequence, gapless, from the watermark on.
    pub deltas: Vec<Arc<Delta>>,
    /// The last sequence that is included.
    pub head: ReadToken,
}

/// Reads a timeline's tail incrementally. Shared by all queries on a data source. Cheap to clone.
#[derive(Clone, Debug)]
pub struct TailReader {
    timeline: Timeline,
}

impl TailReader {
    /// A reader that holds at most `limit_bytes` of decoded deltas.
    pub fn new(timeline: Timeline, limit_bytes: usize) -> Self {
        let _ = limit_bytes;
        Self { timeline }
    }

    /// The timeline.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// The deltas after `watermark`, read as far as `freshness` asks. When warm and nothing new: one GET if strong, no
    /// request otherwise.
    ///
    /// # Errors
    /// [`TimelineError::Collected`] when the watermark is below the boundary of garbage collection,
    /// [`TimelineError::TailTooLarge`], and failures of the store.
    pub async fn advance(&self, watermark: &ReadToken, freshness: Freshness) -> Result<Tail, TimelineError> {
        let _ = (watermark, freshness);
        todo!()
    }

    /// Forgets the deltas up to a watermark: no reader will ask for them again.
    pub fn forget(&self, watermark: &ReadToken) {
        let _ = watermark;
        todo!()
    }

    /// Bytes of decoded deltas that are held.
    pub fn held_bytes(&self) -> usize {
        todo!()
    }
}
