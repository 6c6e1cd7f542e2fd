//! Appending: the writers' half of the protocol.
//!
//! 1. Encode the group of uploads as the delta of sequence head + 1 and create it.
//!    What is known of the head is looked up again when it has grown old.
//! 2. Created: durable and visible to everyone, at once. If what was known of the head grew old on the way (the process was
//!    put to sleep), read the boundary *now*: at or below it, the sequence had been used and collected before, nobody reads
//!    it, and the group is not committed. Go on after the boundary.
//! 3. Taken: another writer won. Read what it wrote; an upload of ours that came with a receipt may be in it. Back off with
//!    jitter, and try the next sequence.
//! 4. Unknown: `Store::create` has tried to find out for as long as it makes sense. Say so: every upload of the group is
//!    [`AppendError::Ambiguous`].
//!
//! Owns `batch-is-atomic`: an upload is in one delta as a whole; and `nothing-commits-into-the-past`: a sequence at or below
//! the boundary counts for nobody.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sha2::{Digest, Sha256};
use tarn_model::{FORMAT, ObjectKey, ReadToken, ValidationError, limits};
use tarn_store::{BackoffPolicy, Created, StoreError, is_source_deleted};
use ulid::Ulid;

use crate::batch::PointBatch;
use crate::blocking::run;
use crate::codec::{BatchInfo, decode_header, encode_delta};
use crate::error::{AppendError, TimelineError};
use crate::receipt::{Receipt, payload_digest};
use crate::timeline::{Knowledge, LANE, Timeline};

/// How long a process goes on appending to a data source before it looks again whether it is deleted.
const DELETED_CHECK_EVERY: Duration = Duration::from_secs(30);
/// Lost races in a row after which the head is looked up rather than walked to.
const WALK: u32 = 2;
pub(crate) const CONFLICTS: BackoffPolicy =
    BackoffPolicy { initial: Duration::from_millis(5), max: Duration::from_millis(400), retries: 60 };

/// How to append.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AppendOptions {
    /// Makes a repeated upload take effect once. At most [`limits::IDEMPOTENCY_KEY_BYTES`] bytes.
    pub idempotency_key: Option<String>,
    /// In place of a key: where the upload's receipt stands. Its owner keeps it; garbage collection does not know of it.
    pub receipt: Option<ObjectKey>,
}

impl AppendOptions {
    /// With an idempotency key.
    pub fn idempotent(key: impl Into<String>) -> Self {
        Self { idempotency_key: Some(key.into()), receipt: None }
    }

    /// With a receipt of the caller's.
    pub fn receipt_at(object: ObjectKey) -> Self {
        Self { idempotency_key: None, receipt: Some(object) }
    }
}

/// A durable append.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// Includes the append, and what came before it.
    pub token: ReadToken,
    /// Another attempt with the same idempotency key has written it. Attempts that run at the same time may all take
    /// themselves for the writer; it is written once all the same.
    pub replayed: bool,
}

impl Appended {
    fn at(sequence: u64, replayed: bool) -> Self {
        Self { token: ReadToken::single(sequence), replayed }
    }
}

/// An upload on its way into a delta.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub(crate) id: Ulid,
    pub(crate) batch: PointBatch,
    /// With a receipt: the batch id is in no delta up to here. Without one nobody else can have written the id.
    pub(crate) absent_up_to: Option<u64>,
}

/// What is left to do for an upload.
pub(crate) enum Prepared {
    Commit(Box<Member>),
    Done(Appended),
}

fn commit(member: Member) -> Prepared {
    Prepared::Commit(Box::new(member))
}

type Outcome = Option<Result<Appended, AppendError>>;

impl Timeline {
    /// Appends a batch as one delta: durable and visible as a whole, or not at all. An empty batch writes nothing.
    ///
    /// # Errors
    /// See [`AppendError`]; each kind says what is durable.
    pub async fn append(&self, batch: PointBatch, options: AppendOptions) -> Result<Appended, AppendError> {
        match self.prepare(batch, options).await? {
            Prepared::Done(appended) => Ok(appended),
            Prepared::Commit(member) => {
                let outcome = self.commit(std::slice::from_ref(member.as_ref())).await.pop();
                outcome.unwrap_or_else(|| Err(lost("the append had no outcome")))
            }
        }
    }

    /// Gives an upload its batch id: a new one, or that of its receipt.
    pub(crate) async fn prepare(&self, batch: PointBatch, options: AppendOptions) -> Result<Prepared, AppendError> {
        if batch.source() != self.source() {
            let message = format!("the batch is for {}, not for {}", batch.source().id, self.source().id);
            return Err(ValidationError::one(message).into());
        }
        self.refuse_deleted().await?;
        if batch.is_empty() {
            return Ok(Prepared::Done(Appended::at(self.known_or_find().await?.head, false)));
        }
        if let Some(object) = options.receipt {
            return self.prepare_with_receipt(batch, object).await;
        }
        let Some(key) = options.idempotency_key else {
            return Ok(commit(Member { id: self.new_id(), batch, absent_up_to: None }));
        };
        if key.is_empty() || key.len() > limits::IDEMPOTENCY_KEY_BYTES {
            let message = format!("an idempotency key takes 1 to {} bytes", limits::IDEMPOTENCY_KEY_BYTES);
            return Err(ValidationError::one(message).into());
        }
        let digest = Sha256::digest(key.as_bytes()).into();
        self.prepare_with_receipt(batch, ObjectKey::Receipt { source: self.source().id.clone(), digest }).await
    }

    async fn prepare_with_receipt(&self, batch: PointBatch, object: ObjectKey) -> Result<Prepared, AppendError> {
        let columns = batch.record_batch().clone();
        let payload =
            run(batch.estimated_bytes(), move || payload_digest(&columns)).await.map_err(AppendError::NotApplied)?;
        let receipt = Receipt {
            format: FORMAT,
            source: self.source().id.clone(),
            batch_id: self.new_id(),
            head: ReadToken::single(self.known_or_find().await?.head),
            payload,
            created_ms: self.store().clock().now_ms(),
        };
        let name = object.render();
        let is_ours = |found: &Bytes| {
            Receipt::parse(&name, found, &receipt.source).is_ok_and(|found| found.batch_id == receipt.batch_id)
        };
        // A receipt commits nothing: whatever becomes of it, the points are not written yet.
        let created = self.store().create(&object, receipt.encode(&name)?, is_ours).await;
        let earlier = match created.map_err(AppendError::NotApplied)? {
            Created::Ours => {
                let absent_up_to = Some(receipt.head.sequence(LANE));
                return Ok(commit(Member { id: receipt.batch_id, batch, absent_up_to }));
            }
            Created::Taken(found) => Receipt::parse(&name, &found, &receipt.source)?,
        };
        if earlier.payload != receipt.payload {
            return Err(AppendError::KeyReused);
        }
        self.resume(batch, &earlier).await
    }

    /// Takes up an upload whose receipt was there before: what became of it?
    async fn resume(&self, batch: PointBatch, receipt: &Receipt) -> Result<Prepared, AppendError> {
        let since = receipt.head.sequence(LANE);
        let head = self.find_head().await.map_err(not_applied)?.head;
        let boundary = self.boundary().await.map_err(AppendError::NotApplied)?;
        let member = Member { id: receipt.batch_id, batch, absent_up_to: Some(since.max(boundary)) };
        if let Some(sequence) = self.find_id(&member, head).await? {
            self.store().make_durable(&self.key(sequence)).await.map_err(AppendError::NotApplied)?;
            return Ok(Prepared::Done(Appended::at(sequence, true)));
        }
        if since < boundary {
            return Err(AppendError::KeyExpired { collected: ReadToken::single(boundary) });
        }
        Ok(commit(Member { absent_up_to: Some(head.max(since)), ..member }))
    }

    /// Commits uploads as one delta. One outcome per member, in order.
    pub(crate) async fn commit(&self, members: &[Member]) -> Vec<Result<Appended, AppendError>> {
        let mut outcomes: Vec<Outcome> = vec![None; members.len()];
        let failure = self.try_commit(members.to_vec(), &mut outcomes).await.err();
        let failure = failure.unwrap_or_else(|| lost("the append had no outcome"));
        outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(failure.clone()))).collect()
    }

    /// Sets the outcomes of all members, or fails: then what has no outcome has the error for one.
    async fn try_commit(&self, mut members: Vec<Member>, outcomes: &mut [Outcome]) -> Result<(), AppendError> {
        let _writer = self.inner.writer.lock().await;
        let mut backoff = self.store().backoff(CONFLICTS);
        let mut lost_races = 0;
        loop {
            let known = self.known_or_find().await?;
            self.settle_written(&mut members, known, outcomes).await?;
            let waiting: Vec<usize> = (0..members.len()).filter(|&at| outcomes[at].is_none()).collect();
            if waiting.is_empty() {
                return Ok(());
            }
            let sequence = known.head + 1;
            // An upload that a client repeats while the first attempt waits is in the same group; it goes in once.
            let mut ids = HashSet::new();
            let (firsts, repeats): (Vec<usize>, Vec<usize>) =
                waiting.into_iter().partition(|&at| ids.insert(members[at].id));
            let group: Vec<&Member> = firsts.iter().map(|&at| &members[at]).collect();
            match self.try_sequence(sequence, &group, known).await? {
                Won::Ours => {
                    firsts.iter().for_each(|&at| outcomes[at] = Some(Ok(Appended::at(sequence, false))));
                    repeats.iter().for_each(|&at| outcomes[at] = Some(Ok(Appended::at(sequence, true))));
                    return Ok(());
                }
                Won::Nobody => continue,
                Won::Other => lost_races += 1,
            }
            let Some(wait) = backoff.next_wait() else {
                return Err(AppendError::Contended { attempts: lost_races });
            };
            tracing::debug!(source = %self.source().id, sequence, "another writer won the sequence");
            self.store().clock().sleep(wait).await;
            if lost_races % WALK == 0 {
                self.find_head().await.map_err(not_applied)?;
            }
        }
    }

    /// Tries to create the delta of one sequence.
    pub(crate) async fn try_sequence(
        &self,
        sequence: u64,
        group: &[&Member],
        known: Knowledge,
    ) -> Result<Won, AppendError> {
        let infos: Vec<BatchInfo> =
            group.iter().map(|member| BatchInfo { id: member.id, rows: member.batch.rows() as u64 }).collect();
        let bytes = self.encode(sequence, infos.clone(), group).await?;
        let key = self.key(sequence);
        let name = key.render();
        let is_ours = |found: &Bytes| decode_header(&name, found).is_ok_and(|header| header.batches == infos);
        let started = self.now();
        match self.store().create(&key, bytes, is_ours).await {
            Ok(Created::Ours) => {
                if !self.is_fresh(known.at) {
                    // The put may have landed where a collected delta had been. The boundary was written before that
                    // delta was deleted, so reading it now tells.
                    let boundary = self.boundary().await.map_err(|error| lost(&error))?;
                    if sequence <= boundary {
                        tracing::warn!(source = %self.source().id, sequence, boundary, "an append came after collection; again");
                        self.learn_exists(boundary);
                        return Ok(Won::Nobody);
                    }
                }
                if group.iter().all(|member| member.absent_up_to.is_none()) {
                    self.learn(sequence, started);
                } else {
                    // Another attempt with the receipt may have written it, long before, and others after it.
                    self.learn_exists(sequence);
                }
                self.remember(sequence, infos.iter().map(|info| info.id).collect());
                Ok(Won::Ours)
            }
            Ok(Created::Taken(found)) => {
                let header = decode_header(&name, &found)?;
                self.remember(sequence, header.batches.iter().map(|batch| batch.id).collect());
                self.learn_exists(sequence);
                Ok(Won::Other)
            }
            Err(error @ StoreError::Ambiguous { .. }) => Err(lost(&error)),
            Err(error) => Err(AppendError::NotApplied(error)),
        }
    }

    async fn encode(&self, sequence: u64, infos: Vec<BatchInfo>, group: &[&Member]) -> Result<Bytes, AppendError> {
        let batches: Vec<PointBatch> = group.iter().map(|member| member.batch.clone()).collect();
        let size = batches.iter().map(PointBatch::estimated_bytes).sum();
        let work = move || -> Result<Bytes, AppendError> {
            let batch = PointBatch::concat(&batches)?;
            Ok(encode_delta(LANE, sequence, &infos, &batch)?)
        };
        run(size, work).await.map_err(AppendError::NotApplied)?
    }

    /// Settles the members with a receipt that another attempt has written, up to the head.
    async fn settle_written(
        &self,
        members: &mut [Member],
        known: Knowledge,
        outcomes: &mut [Outcome],
    ) -> Result<(), AppendError> {
        let head = known.head;
        for (member, outcome) in members.iter_mut().zip(outcomes) {
            if outcome.is_some() || member.absent_up_to.is_none() {
                continue;
            }
            match self.find_id(member, head).await {
                Ok(Some(sequence)) => *outcome = Some(self.believe_written(sequence, known).await),
                Ok(None) => member.absent_up_to = member.absent_up_to.max(Some(head)),
                Err(error @ AppendError::KeyExpired { .. }) => *outcome = Some(Err(error)),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// A batch id was found; whether the sequence counts is the boundary's to say when knowledge is old.
    async fn believe_written(&self, sequence: u64, known: Knowledge) -> Result<Appended, AppendError> {
        if !self.is_fresh(known.at) {
            let boundary = self.boundary().await.map_err(AppendError::NotApplied)?;
            if sequence <= boundary {
                return Err(AppendError::KeyExpired { collected: ReadToken::single(boundary) });
            }
        }
        self.store().make_durable(&self.key(sequence)).await.map_err(AppendError::NotApplied)?;
        Ok(Appended::at(sequence, true))
    }

    /// The sequence up to `head` that has the member's batch id, looked for from where its absence is not known.
    async fn find_id(&self, member: &Member, head: u64) -> Result<Option<u64>, AppendError> {
        let Some(absent_up_to) = member.absent_up_to else { return Ok(None) };
        for sequence in absent_up_to + 1..=head {
            let ids = match self.remembered(sequence) {
                Some(ids) => ids,
                None => self.read_ids(sequence).await?,
            };
            if ids.contains(&member.id) {
                return Ok(Some(sequence));
            }
        }
        Ok(None)
    }

    async fn read_ids(&self, sequence: u64) -> Result<Arc<[Ulid]>, AppendError> {
        let key = self.key(sequence);
        let Some(bytes) = self.store().get(&key).await.map_err(AppendError::NotApplied)? else {
            return Err(match self.explain_absent(sequence).await {
                TimelineError::Collected { collected } => AppendError::KeyExpired { collected },
                other => not_applied(other),
            });
        };
        let header = decode_header(&key.render(), &bytes)?;
        let ids: Arc<[Ulid]> = header.batches.iter().map(|batch| batch.id).collect();
        self.remember(sequence, Arc::clone(&ids));
        Ok(ids)
    }

    pub(crate) async fn known_or_find(&self) -> Result<Knowledge, AppendError> {
        match self.known_fresh() {
            Some(known) => Ok(known),
            None => self.find_head().await.map_err(not_applied),
        }
    }

    pub(crate) async fn refuse_deleted(&self) -> Result<(), AppendError> {
        let now = self.now();
        let recent = |at: Duration| now.saturating_sub(at) < DELETED_CHECK_EVERY;
        if self.inner.existed_at.lock().is_some_and(recent) {
            return Ok(());
        }
        let id = &self.source().id;
        if is_source_deleted(self.store(), id).await.map_err(AppendError::NotApplied)? {
            return Err(AppendError::Deleted { source_id: id.clone() });
        }
        *self.inner.existed_at.lock() = Some(now);
        Ok(())
    }

    pub(crate) fn new_id(&self) -> Ulid {
        let now = u64::try_from(self.store().clock().now_ms()).unwrap_or(0);
        Ulid::from_parts(now, rand::random())
    }
}

/// Who has a sequence after a try.
pub(crate) enum Won {
    Ours,
    Other,
    /// It is below the boundary and counts for nobody.
    Nobody,
}

fn lost(cause: &(impl ToString + ?Sized)) -> AppendError {
    AppendError::Ambiguous { cause: cause.to_string() }
}

/// A failure before anything was put.
fn not_applied(error: TimelineError) -> AppendError {
    match error {
        TimelineError::Store(error) => AppendError::NotApplied(error),
        TimelineError::Corrupt(error) => AppendError::Corrupt(error),
        // Finding the head goes on after the boundary by itself; so this does not arrive here.
        other @ TimelineError::Collected { .. } => lost(&other),
    }
}
