//! Leaves as invocations of a function: one for each group of shards, and more when an answer is larger than a response.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use tarn_model::{ValidationError, Vector};
use tarn_search::{LeafAnswer, LeafRequest, LeafSearch, SearchError, Timings};
use tarn_store::Clock;

use crate::events::{LeafEvent, LeafReply, PAYLOAD_BYTES};
use crate::function::Invoke;

/// Leaves behind something that is invoked.
pub(crate) struct LambdaLeaves<I> {
    function: I,
    clock: Arc<dyn Clock>,
}

impl<I: Invoke> LambdaLeaves<I> {
    /// Leaves that are invocations of `function`.
    pub(crate) fn new(function: I, clock: Arc<dyn Clock>) -> Self {
        Self { function, clock }
    }

    /// One invocation.
    async fn ask(&self, request: LeafRequest) -> Result<LeafReply, SearchError> {
        let failed = |what: &str, error: serde_json::Error| SearchError::Internal(format!("{what} a leaf: {error}"));
        let payload = serde_json::to_vec(&LeafEvent { request }).map_err(|error| failed("cannot ask", error))?;
        if payload.len() > PAYLOAD_BYTES {
            return Ok(LeafReply::TooLarge(payload.len()));
        }
        let reply = self.function.invoke(payload.into()).await?;
        serde_json::from_slice(&reply).map_err(|error| failed("not the reply of", error))
    }
}

#[async_trait]
impl<I: Invoke> LeafSearch for LambdaLeaves<I> {
    async fn search(&self, mut request: LeafRequest) -> Result<LeafAnswer, SearchError> {
        let began = self.clock.monotonic();
        let remaining = request.remaining;
        let mut whole = LeafAnswer::default();
        // The last batch is the next one.
        let mut batches: Vec<Vec<Vector>> = vec![std::mem::take(&mut request.search.queries)];
        while let Some(queries) = batches.pop() {
            let mut batch = request.clone();
            batch.search.queries.clone_from(&queries);
            let spent = self.clock.monotonic().saturating_sub(began);
            batch.remaining = remaining.map(|remaining| remaining.saturating_sub(spent));
            match self.ask(batch).await? {
                LeafReply::Answer(answer) => append(&mut whole, answer),
                LeafReply::Error(error) => return Err(error.into()),
                LeafReply::TooLarge(_) if queries.len() > 1 => {
                    let (first, second) = queries.split_at(queries.len() / 2);
                    batches.extend([second.to_vec(), first.to_vec()]);
                }
                LeafReply::TooLarge(bytes) => {
                    return Err(SearchError::Invalid(ValidationError::one(format!(
                        "what is found for one query vector takes {bytes} bytes, more than the {PAYLOAD_BYTES} that a \
                         function answers; ask for fewer points, fewer attributes, or with retrieveVectors false"
                    ))));
                }
            }
        }
        Ok(whole)
    }
}

/// Adds the answer to further queries.
fn append(whole: &mut LeafAnswer, answer: LeafAnswer) {
    let LeafAnswer { results, allowed, considered, timings } = answer;
    whole.results.extend(results);
    whole.allowed += allowed;
    whole.considered += considered;
    let add = |a: Duration, b: Duration| a.saturating_add(b);
    whole.timings = Timings {
        snapshot: add(whole.timings.snapshot, timings.snapshot),
        search: add(whole.timings.search, timings.search),
        fetch: add(whole.timings.fetch, timings.fetch),
    };
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use bytes::Bytes;
    use tarn_model::ReadToken;
    use tarn_search::{Found, LeafError, LeafHit, Pin, SearchRequest};
    use tarn_testkit::{ManualClock, Scenario};

    use super::*;

    /// Finds each query's own first coordinate; takes one second; holds at most `most` queries in a response.
    struct Echo {
        most: usize,
        clock: Arc<ManualClock>,
        calls: AtomicUsize,
        told: Mutex<Vec<Option<Duration>>>,
    }

    #[async_trait]
    impl Invoke for Arc<Echo> {
        async fn invoke(&self, payload: Bytes) -> Result<Bytes, SearchError> {
            self.calls.fetch_add(1, Ordering::SeqCst);
            self.clock.advance(Duration::from_secs(1));
            let LeafEvent { request } = serde_json::from_slice(&payload).unwrap();
            assert!(payload.starts_with(br#"{"tarnLeaf":"#));
            self.told.lock().unwrap().push(request.remaining);
            let queries = &request.search.queries;
            let hit = |query: &Vector| {
                let Vector::Dense(values) = query else { panic!("a sparse vector") };
                let found = Found { attributes: Vec::new(), vector: None, distance: values[0].into() };
                vec![LeafHit { key: Vec::new(), found }]
            };
            let reply = if queries.len() > self.most {
                LeafReply::TooLarge(PAYLOAD_BYTES + 1)
            } else {
                let (allowed, considered) = (queries.len() as u64 * 2, queries.len() as u64);
                let results = queries.iter().map(hit).collect();
                LeafReply::Answer(LeafAnswer { results, allowed, considered, timings: Timings::default() })
            };
            Ok(serde_json::to_vec(&reply).unwrap().into())
        }
    }

    fn echo(most: usize) -> (LambdaLeaves<Arc<Echo>>, Arc<Echo>) {
        let clock = Arc::new(ManualClock::new());
        let echo = Echo { most, clock: clock.clone(), calls: AtomicUsize::new(0), told: Default::default() };
        let echo = Arc::new(echo);
        (LambdaLeaves::new(Arc::clone(&echo), clock), echo)
    }

    fn request(queries: usize) -> LeafRequest {
        let scenario = Scenario::dense();
        #[allow(clippy::cast_precision_loss, reason = "small numbers")]
        let queries = (0..queries).map(|number| Vector::Dense(vec![number as f32]));
        let commit_id = "01ARZ3NDEKTSV4RRFFQ69G5FAV".parse().unwrap();
        LeafRequest {
            index: (*scenario.indices[0]).clone(),
            source: (*scenario.source).clone(),
            pin: Pin { generation: 1, commit_id, head: ReadToken::single(0) },
            shards: Vec::new(),
            search: SearchRequest::new(queries.collect(), 1),
            remaining: Some(Duration::from_secs(100)),
        }
    }

    #[tokio::test]
    async fn an_answer_that_is_too_large_is_asked_for_in_pieces_and_put_together_in_order() {
        for (queries, most) in [(1, 1), (7, 100), (7, 3), (16, 1), (33, 2)] {
            let (leaves, echo) = echo(most);
            let answer = leaves.search(request(queries)).await.unwrap();
            let distances: Vec<f64> = answer.results.iter().map(|hits| hits[0].found.distance).collect();
            assert_eq!(distances, (0..u32::try_from(queries).unwrap()).map(f64::from).collect::<Vec<_>>());
            assert_eq!((answer.allowed, answer.considered), (queries as u64 * 2, queries as u64));
            let told = echo.told.lock().unwrap();
            assert_eq!(told[0], Some(Duration::from_secs(100)));
            assert!(told.windows(2).all(|pair| pair[1] < pair[0]), "each is told what is left: {told:?}");
        }
    }

    #[tokio::test]
    async fn one_query_that_is_too_large_is_the_requests_fault() {
        let (leaves, echo) = echo(0);
        let error = leaves.search(request(2)).await.unwrap_err();
        assert!(matches!(&error, SearchError::Invalid(error) if error.messages[0].contains("fewer points")), "{error}");
        assert_eq!(echo.calls.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_request_beyond_the_limit_is_never_sent() {
        let (leaves, echo) = echo(1);
        let mut request = request(1);
        request.search.queries = vec![Vector::Dense(vec![0.5; PAYLOAD_BYTES / 5])];
        assert!(matches!(leaves.search(request).await, Err(SearchError::Invalid(_))));
        assert_eq!(echo.calls.load(Ordering::SeqCst), 0);
    }

    #[tokio::test]
    async fn a_leafs_error_keeps_its_kind() {
        struct Fails(LeafError);
        #[async_trait]
        impl Invoke for Fails {
            async fn invoke(&self, _: Bytes) -> Result<Bytes, SearchError> {
                Ok(serde_json::to_vec(&LeafReply::Error(self.0.clone())).unwrap().into())
            }
        }
        let fails = async |error| {
            let leaves = LambdaLeaves::new(Fails(error), Arc::new(ManualClock::new()));
            leaves.search(request(1)).await.unwrap_err()
        };
        assert!(fails(LeafError::Unavailable("busy".into())).await.is_retryable());
        let missing = fails(LeafError::Missing("manifest".into())).await;
        assert!(matches!(missing, SearchError::Store(tarn_store::StoreError::Missing { .. })), "{missing}");
    }
}
