//! Group commit: concurrent uploads of one process go out as one delta per round trip.
//!
//! The first upload to arrive makes a leader, which commits it alone: an uncontended upload is one put. What arrives while
//! that put is under way waits, and goes out together as the next delta. Each upload is all or nothing by itself, and gets
//! the token of the delta that holds it.
//!
//! The leader is a task of its own: a client that goes away takes neither its own queued upload nor its neighbours' along.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::append::{AppendOptions, Appended, Member, Prepared};
use crate::batch::PointBatch;
use crate::error::AppendError;
use crate::schema::MAX_DELTA_ROWS;
use crate::timeline::Timeline;

/// Bounds of a [`GroupCommitter`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupSettings {
    /// Most bytes of uploads that wait or are being written; beyond, [`AppendError::Overloaded`]. A single upload may be
    /// larger when nothing else waits.
    pub queue_bytes: usize,
    /// Most bytes of one delta; a larger upload goes alone.
    pub delta_bytes: usize,
}

impl Default for GroupSettings {
    fn default() -> Self {
        Self { queue_bytes: 512 << 20, delta_bytes: 64 << 20 }
    }
}

/// Coalesces concurrent uploads to one timeline. Cheap to clone; clones share the queue.
#[derive(Clone, Debug)]
pub struct GroupCommitter {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    timeline: Timeline,
    settings: GroupSettings,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    waiting: VecDeque<Waiting>,
    /// Of what waits and of what is being written.
    bytes: usize,
    /// Whether a leader is at work; it looks at the queue once more before it stops.
    led: bool,
}

#[derive(Debug)]
struct Waiting {
    member: Box<Member>,
    reserved: Reserved,
    done: oneshot::Sender<Result<Appended, AppendError>>,
}

/// Bytes in flight, given back on drop.
#[derive(Debug)]
struct Reserved {
    shared: Arc<Shared>,
    bytes: usize,
}

impl Drop for Reserved {
    fn drop(&mut self) {
        self.shared.queue.lock().bytes -= self.bytes;
    }
}

impl GroupCommitter {
    /// A committer with default settings.
    pub fn new(timeline: Timeline) -> Self {
        Self::with_settings(timeline, GroupSettings::default())
    }

    /// A committer.
    pub fn with_settings(timeline: Timeline, settings: GroupSettings) -> Self {
        Self { shared: Arc::new(Shared { timeline, settings, queue: Mutex::default() }) }
    }

    /// The timeline.
    pub fn timeline(&self) -> &Timeline {
        &self.shared.timeline
    }

    /// Bytes of uploads that wait or are being written.
    pub fn queued_bytes(&self) -> usize {
        self.shared.queue.lock().bytes
    }

    /// Appends a batch, possibly in one delta with others; the batch is all or nothing by itself.
    ///
    /// Dropping the future does not take the upload back.
    ///
    /// # Errors
    /// See [`AppendError`]; each kind says what is durable. A put that fails, fails every upload of its delta alike.
    pub async fn submit(&self, batch: PointBatch, options: AppendOptions) -> Result<Appended, AppendError> {
        let reserved = self.reserve(batch.estimated_bytes())?;
        let member = match self.timeline().prepare(batch, options).await? {
            Prepared::Done(appended) => return Ok(appended),
            Prepared::Commit(member) => member,
        };
        let (done, outcome) = oneshot::channel();
        let lead = {
            let mut queue = self.shared.queue.lock();
            queue.waiting.push_back(Waiting { member, reserved, done });
            !std::mem::replace(&mut queue.led, true)
        };
        if lead {
            tokio::spawn(lead_groups(Arc::clone(&self.shared)));
        }
        outcome.await.unwrap_or_else(|_| {
            Err(AppendError::Ambiguous { cause: "the process stopped while it wrote the upload".to_owned() })
        })
    }

    fn reserve(&self, bytes: usize) -> Result<Reserved, AppendError> {
        let mut queue = self.shared.queue.lock();
        let limit_bytes = self.shared.settings.queue_bytes;
        if queue.bytes > 0 && queue.bytes + bytes > limit_bytes {
            return Err(AppendError::Overloaded { queued_bytes: queue.bytes, limit_bytes });
        }
        queue.bytes += bytes;
        Ok(Reserved { shared: Arc::clone(&self.shared), bytes })
    }
}

/// Commits group after group until nothing waits.
async fn lead_groups(shared: Arc<Shared>) {
    let mut lead = Lead { shared: Arc::clone(&shared), over: false };
    loop {
        // Lets those that are ready at this moment join.
        tokio::task::yield_now().await;
        let Some(group) = shared.take_group() else {
            lead.over = true;
            return;
        };
        let mut members = Vec::with_capacity(group.len());
        let mut waiting = Vec::with_capacity(group.len());
        for Waiting { member, reserved, done } in group {
            members.push(*member);
            waiting.push((reserved, done));
        }
        let outcomes = shared.timeline.commit(&members).await;
        for ((reserved, done), outcome) in waiting.into_iter().zip(outcomes) {
            drop(reserved);
            // Whoever asked may have gone away; the outcome stands all the same.
            let _gone = done.send(outcome);
        }
    }
}

impl Shared {
    /// The next uploads, as many as fit into one delta; `None` when nothing waits, and the leader must stop then.
    fn take_group(&self) -> Option<Vec<Waiting>> {
        let mut queue = self.queue.lock();
        let mut group: Vec<Waiting> = Vec::new();
        let (mut rows, mut bytes) = (0, 0);
        while let Some(next) = queue.waiting.front() {
            rows += next.member.batch.rows();
            bytes += next.reserved.bytes;
            if !group.is_empty() && (rows > MAX_DELTA_ROWS || bytes > self.settings.delta_bytes) {
                break;
            }
            group.extend(queue.waiting.pop_front());
        }
        if group.is_empty() {
            queue.led = false;
            return None;
        }
        Some(group)
    }
}

/// A leader that ends before its time, by a panic or with the runtime, leaves nobody waiting for it.
struct Lead {
    shared: Arc<Shared>,
    /// It ended in time. Another leader may be at work already; then the queue is its.
    over: bool,
}

impl Drop for Lead {
    fn drop(&mut self) {
        if self.over {
            return;
        }
        let abandoned = {
            let mut queue = self.shared.queue.lock();
            queue.led = false;
            std::mem::take(&mut queue.waiting)
        };
        drop(abandoned);
    }
}
