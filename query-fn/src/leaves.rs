//! Leaves as invocations of a function: one for each group of shards, and more when a request or an answer is larger than what
//! an invocation carries.

use std::sync::Arc;

use async_trait::async_trait;
use tarn_api::gateway::PAYLOAD_BYTES;
use tarn_model::{ValidationError, Vector};
use tarn_search::{LeafAnswer, LeafRequest, LeafSearch, SearchError};
use tarn_store::Clock;

use crate::events::{LeafEvent, LeafReply};
use crate::function::Invoke;

/// Most bytes of one group's replies together. A search that finds more of one group alone has an answer that no client gets
/// through the function, compressed or not; so it ends before it has filled the memory.
const REPLIES_BYTES: usize = 4 * PAYLOAD_BYTES;

/// Leaves behind something that is invoked.
pub(crate) struct LambdaLeaves<I> {
    function: I,
    clock: Arc<dyn Clock>,
}

/// What came of one invocation.
enum Asked {
    Replied(Box<LeafReply>, usize),
    /// It was not made: the request has so many bytes.
    RequestTooLarge(usize),
}

impl<I: Invoke> LambdaLeaves<I> {
    /// Leaves that are invocations of `function`.
    pub(crate) fn new(function: I, clock: Arc<dyn Clock>) -> Self {
        Self { function, clock }
    }

    /// One invocation.
    async fn ask(&self, request: &LeafRequest) -> Result<Asked, SearchError> {
        let failed = |what: &str, error: serde_json::Error| SearchError::Internal(format!("{what} a leaf: {error}"));
        let payload = serde_json::to_vec(&LeafEvent { request }).map_err(|error| failed("cannot ask", error))?;
        if payload.len() > PAYLOAD_BYTES {
            return Ok(Asked::RequestTooLarge(payload.len()));
        }
        let reply = self.function.invoke(payload.into()).await?;
        let bytes = reply.len();
        let reply = serde_json::from_slice(&reply).map_err(|error| failed("not the reply of", error))?;
        Ok(Asked::Replied(Box::new(reply), bytes))
    }
}

#[async_trait]
impl<I: Invoke> LeafSearch for LambdaLeaves<I> {
    async fn search(&self, mut request: LeafRequest) -> Result<LeafAnswer, SearchError> {
        let began = self.clock.monotonic();
        let remaining = request.remaining;
        let (mut whole, mut whole_bytes) = (LeafAnswer::default(), 0);
        // The last piece is the next one.
        let mut pieces: Vec<Vec<Vector>> = vec![std::mem::take(&mut request.search.queries)];
        while let Some(queries) = pieces.pop() {
            request.search.queries = queries;
            let spent = self.clock.monotonic().saturating_sub(began);
            request.remaining = remaining.map(|remaining| remaining.saturating_sub(spent));
            let (bytes, what) = match self.ask(&request).await? {
                Asked::Replied(reply, bytes) => match *reply {
                    LeafReply::Answer(answer) => {
                        let (results, wanted) = (answer.results.len(), request.search.results());
                        if results != wanted {
                            let message = format!("a leaf gave {results} results where {wanted} were wanted");
                            return Err(SearchError::Internal(message));
                        }
                        whole_bytes += bytes;
                        if whole_bytes > REPLIES_BYTES {
                            return Err(too_large(whole_bytes, "what is found takes", REPLIES_BYTES));
                        }
                        append(&mut whole, answer);
                        continue;
                    }
                    LeafReply::Error(error) => return Err(error.into()),
                    LeafReply::TooLarge(bytes) => (bytes, "one result takes"),
                },
                Asked::RequestTooLarge(bytes) => {
                    (bytes, "the query vectors of one result, with the filter and the index's definition, take")
                }
            };
            // A sum over all of its query vectors cannot be had in pieces.
            if request.search.results() == 1 {
                return Err(too_large(bytes, what, PAYLOAD_BYTES));
            }
            let queries = std::mem::take(&mut request.search.queries);
            let each = queries.len().div_ceil(bytes.div_ceil(PAYLOAD_BYTES).max(2));
            pieces.extend(queries.chunks(each).rev().map(<[Vector]>::to_vec));
        }
        Ok(whole)
    }
}

fn too_large(bytes: usize, what: &str, most: usize) -> SearchError {
    SearchError::Invalid(ValidationError::one(format!(
        "{what} {bytes} bytes, more than the {most} that searching a large index takes; ask for fewer points or queries at once, \
         fewer attributes, with retrieveVectors false, or with a smaller filter"
    )))
}

/// Adds the answer to further queries.
fn append(whole: &mut LeafAnswer, answer: LeafAnswer) {
    let LeafAnswer { results, allowed, considered, timings, spent, leaves, segments } = answer;
    whole.results.extend(results);
    whole.allowed = whole.allowed.saturating_add(allowed);
    whole.considered = whole.considered.saturating_add(considered);
    whole.timings = whole.timings.then(&timings);
    whole.spent = whole.spent.then(&spent);
    whole.leaves = whole.leaves.and(leaves);
    whole.segments.extend(segments);
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use bytes::Bytes;
    use tarn_model::{AttributeValue, ReadToken};
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
            let LeafEvent { request } = serde_json::from_slice::<LeafEvent>(&payload).unwrap();
            assert!(payload.starts_with(br#"{"tarnLeaf":"#));
            self.told.lock().unwrap().push(request.remaining);
            let queries = &request.search.queries[..request.search.results()];
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
                LeafReply::Answer(LeafAnswer { results, allowed, considered, ..LeafAnswer::default() })
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

    /// The best by the sum over these lists of vectors.
    fn sum(parts: serde_json::Value, queries: usize) -> LeafRequest {
        let mut request = request(queries);
        request.search.ranking = Some(serde_json::from_value(serde_json::json!({ "sum": parts })).unwrap());
        request
    }

    #[tokio::test]
    async fn a_sum_over_several_query_vectors_is_one_result_and_is_never_cut() {
        let parts = serde_json::json!([[0, 2], [1, 2]]);
        let (leaves, echo) = echo(1);
        let answer = leaves.search(sum(parts.clone(), 3)).await.unwrap();
        assert_eq!((answer.results.len(), echo.calls.load(Ordering::SeqCst)), (1, 1));
        let (leaves, echo) = self::echo(0);
        let error = leaves.search(sum(parts, 3)).await.unwrap_err();
        assert!(matches!(&error, SearchError::Invalid(error) if error.messages[0].contains("one result")), "{error}");
        assert_eq!(echo.calls.load(Ordering::SeqCst), 1);
    }

    /// Replies to every request alike, whatever it asks.
    struct Replies(LeafReply);

    #[async_trait]
    impl Invoke for Replies {
        async fn invoke(&self, _: Bytes) -> Result<Bytes, SearchError> {
            Ok(serde_json::to_vec(&self.0).unwrap().into())
        }
    }

    fn replies(reply: LeafReply) -> LambdaLeaves<Replies> {
        LambdaLeaves::new(Replies(reply), Arc::new(ManualClock::new()))
    }

    #[tokio::test]
    async fn an_answer_to_other_queries_is_no_answer() {
        let answer = LeafAnswer { results: vec![Vec::new()], ..LeafAnswer::default() };
        let error = replies(LeafReply::Answer(answer)).search(request(2)).await.unwrap_err();
        assert!(error.to_string().contains("1 results where 2 were wanted"), "{error}");
    }

    #[tokio::test]
    async fn more_than_a_client_could_get_is_not_gathered() {
        /// Half a payload for each query, and room for one.
        struct Heavy(AtomicUsize);
        #[async_trait]
        impl Invoke for Arc<Heavy> {
            async fn invoke(&self, payload: Bytes) -> Result<Bytes, SearchError> {
                self.0.fetch_add(1, Ordering::SeqCst);
                let LeafEvent { request } = serde_json::from_slice::<LeafEvent>(&payload).unwrap();
                let attributes = vec![("a".to_owned(), AttributeValue::String("x".repeat(PAYLOAD_BYTES / 2)))];
                let hit = LeafHit { key: Vec::new(), found: Found { attributes, vector: None, distance: 0.0 } };
                let reply = match request.search.queries.len() {
                    1 => LeafReply::Answer(LeafAnswer { results: vec![vec![hit]], ..LeafAnswer::default() }),
                    queries => LeafReply::TooLarge(queries * PAYLOAD_BYTES / 2),
                };
                Ok(serde_json::to_vec(&reply).unwrap().into())
            }
        }
        let heavy = Arc::new(Heavy(AtomicUsize::new(0)));
        let leaves = LambdaLeaves::new(Arc::clone(&heavy), Arc::new(ManualClock::new()));
        let error = leaves.search(request(1000)).await.unwrap_err();
        assert!(matches!(&error, SearchError::Invalid(error) if error.messages[0].contains("fewer")), "{error}");
        let calls = heavy.0.load(Ordering::SeqCst);
        assert!(calls < 16, "{calls} invocations");
    }

    #[tokio::test]
    async fn a_request_beyond_the_limit_is_never_sent() {
        let (leaves, echo) = echo(1);
        let large = || Vector::Dense(vec![0.5; PAYLOAD_BYTES / 5]);
        let error = leaves.search(LeafRequest { search: SearchRequest::new(vec![large()], 1), ..request(1) }).await;
        let error = error.unwrap_err();
        assert!(matches!(&error, SearchError::Invalid(error) if error.messages[0].contains("filter")), "{error}");
        assert_eq!(echo.calls.load(Ordering::SeqCst), 0);
        let half = || Vector::Dense(vec![0.5; PAYLOAD_BYTES / 8]);
        let several = SearchRequest::new((0..3).map(|_| half()).collect(), 1);
        let answer = leaves.search(LeafRequest { search: several, ..request(1) }).await.unwrap();
        assert_eq!((answer.results.len(), echo.calls.load(Ordering::SeqCst)), (3, 3));
    }

    #[tokio::test]
    async fn a_leafs_error_keeps_its_kind() {
        let fails = async |error| replies(LeafReply::Error(error)).search(request(1)).await.unwrap_err();
        assert!(fails(LeafError::Unavailable("busy".into())).await.is_retryable());
        let missing = fails(LeafError::Missing("manifest".into())).await;
        assert!(matches!(missing, SearchError::Store(tarn_store::StoreError::Missing { .. })), "{missing}");
    }
}
