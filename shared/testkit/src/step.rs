//! Random steps on a [`Scenario`], as data, so that a failing list of them can be shrunk and repeated.

use rand::Rng;
use rand::rngs::SmallRng;
use tarn_model::{AttributeType, AttributeValue, Attributes, CompareOp, Filter, Update, Vector};

use crate::reference::Scope;
use crate::scenario::Scenario;
use crate::shaped::Rank;

mod ask;

pub use ask::{Beside, Deletion, Fused, GroupBy, Grouped, Sampling, Shaped, Statistic, Stored};

/// A step: one thing that users, builders, operators or fate do.
#[derive(Clone, Debug)]
pub enum Step {
    /// An upload.
    Upload(Upload),
    /// Several uploads at once.
    UploadTogether(Vec<Upload>),
    /// A fold of the data source.
    Fold,
    /// A build of one index.
    Build(usize),
    /// A fold, and a build of every index.
    Run,
    /// Two builders do that at once.
    RunTwice,
    /// Garbage collection.
    CollectGarbage {
        /// Generations that are kept.
        retain: u64,
        /// Only say what would go.
        dry_run: bool,
    },
    /// Time passes.
    Advance {
        /// Milliseconds.
        by_ms: u64,
    },
    /// Every process ends and starts anew.
    Restart {
        /// The local cache is lost too.
        cold: bool,
    },
    /// A search.
    Search(Box<Search>),
    /// Counting an index's points, in every way there is.
    Count(usize),
    /// What an index's points are like together.
    Statistics(Statistic),
    /// Samples.
    Sample(Sampling),
    /// Deleting what a filter is true of.
    Delete(Deletion),
    /// Every live object is read and checked.
    Verify,
    /// The step while the store fails.
    Faulty(Faulty, Box<Step>),
    /// Puts that timed out reach the store after all.
    LandLate,
    /// The hint of an index, which is a copy and commits nothing, is not what it was.
    Hint(usize, HintFault),
}

/// What becomes of a hint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HintFault {
    /// It is gone.
    Lost,
    /// An earlier one is back in its place.
    Stale,
    /// Only its first half is there.
    Cut,
    /// That of another index is in its place.
    Foreign,
}

/// An upload.
#[derive(Clone, Debug)]
pub struct Upload {
    /// With an idempotency key, and repeated so often.
    pub repeats: Option<u32>,
    /// At least one upsert among them makes the upload unlike any other.
    pub updates: Vec<Update>,
}

/// How the store fails.
#[derive(Clone, Copy, Debug)]
pub enum Faulty {
    /// Requests fail at random.
    Random {
        /// Draws the failures.
        seed: u64,
        /// Of each request.
        probability: f64,
    },
    /// The process dies; all processes start anew afterwards.
    Crash {
        /// After so many requests.
        after: u64,
        /// Whether the request that it dies in takes effect.
        during: bool,
    },
}

/// A search.
#[derive(Clone, Debug)]
pub struct Search {
    /// Of the scenario.
    pub index: usize,
    /// The query vectors.
    pub queries: Vec<Vector>,
    /// How many neighbours.
    pub k: u32,
    /// Which points.
    pub scope: Scope,
    /// Any version that is at hand will do.
    pub eventual: bool,
    /// A version that the answer must include.
    pub at_least: AtLeast,
    /// By brute force.
    pub exact: bool,
    /// By a process that has just begun: it knows nothing and has no file.
    pub cold: bool,
    /// With vectors.
    pub vectors: bool,
    /// Only these attributes.
    pub attributes: Option<Vec<String>>,
    /// What is ranked by instead of the index's own distance.
    pub rank: Option<Rank>,
    /// What becomes of the neighbours.
    pub shape: Option<Shaped>,
    /// Of an earlier generation.
    pub as_of: Option<AsOf>,
    /// How long it may take, in milliseconds.
    pub deadline_ms: Option<u64>,
    /// It is asked twice; the second answer is the first one.
    pub twice: bool,
}

/// Which generation is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AsOf {
    /// So many before the newest one.
    Back(u64),
    /// One that there is not yet.
    Ahead,
}

/// The version that a search asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AtLeast {
    /// None.
    Any,
    /// The last acknowledged write.
    Acknowledged,
    /// One that has not happened; the search must be refused.
    Future,
}

/// Draws steps.
#[derive(Debug)]
pub struct Generator<'a> {
    scenario: &'a Scenario,
    rng: SmallRng,
    serial: i64,
    /// How far the steps so far have moved the clock, in milliseconds.
    elapsed_ms: u64,
}

impl<'a> Generator<'a> {
    /// From a seeded source of randomness.
    pub fn new(scenario: &'a Scenario, rng: SmallRng) -> Self {
        Self { scenario, rng, serial: 0, elapsed_ms: 0 }
    }

    /// The next steps.
    pub fn take(&mut self, count: usize) -> Vec<Step> {
        (0..count).map(|_| self.step()).collect()
    }

    fn step(&mut self) -> Step {
        match self.rng.random_range(0..1_000) {
            0..542 => Step::Search(Box::new(self.search())),
            542..550 => Step::Statistics(self.statistic()),
            550..557 => Step::Sample(self.sampling()),
            557..562 => Step::Delete(self.deletion()),
            562..800 => Step::Upload(self.upload()),
            800..815 => {
                let uploads = self.rng.random_range(2..5);
                Step::UploadTogether((0..uploads).map(|_| self.upload()).collect())
            }
            815..840 => Step::Fold,
            840..890 => Step::Build(self.index()),
            890..900 => Step::Run,
            900..903 => Step::RunTwice,
            903..915 => {
                Step::CollectGarbage { retain: self.rng.random_range(1..4), dry_run: self.rng.random_ratio(1, 5) }
            }
            915..935 => {
                let by_ms = 1 << self.rng.random_range(8..25);
                self.elapsed_ms += by_ms;
                Step::Advance { by_ms }
            }
            935..945 => Step::Restart { cold: self.rng.random() },
            945..960 => Step::Count(self.index()),
            960..962 => Step::Verify,
            962..990 => Step::Faulty(self.faulty(), Box::new(self.fallible())),
            990..995 => Step::LandLate,
            _ => Step::Hint(self.index(), self.hint_fault()),
        }
    }

    /// A step that makes requests.
    fn fallible(&mut self) -> Step {
        match self.rng.random_range(0..11) {
            0..4 => Step::Upload(self.upload()),
            10 => Step::Delete(self.deletion()),
            4 => Step::Fold,
            5 => Step::Build(self.index()),
            6..8 => Step::Run,
            8 => Step::CollectGarbage { retain: 1, dry_run: false },
            _ => Step::Search(Box::new(self.search())),
        }
    }

    fn faulty(&mut self) -> Faulty {
        if self.rng.random() {
            let probability = if self.rng.random() { 0.1 } else { 0.5 };
            Faulty::Random { seed: self.rng.random(), probability }
        } else {
            Faulty::Crash { after: self.rng.random_range(0..30), during: self.rng.random() }
        }
    }

    fn hint_fault(&mut self) -> HintFault {
        use HintFault::{Cut, Foreign, Lost, Stale};
        [Lost, Stale, Stale, Cut, Foreign][self.rng.random_range(0..5)]
    }

    fn index(&mut self) -> usize {
        self.rng.random_range(0..self.scenario.indices.len())
    }

    fn upload(&mut self) -> Upload {
        let rows = if self.rng.random_ratio(1, 15) { 150 } else { self.rng.random_range(1..20) };
        let deletes = if self.rng.random_ratio(1, 10) { 0.8 } else { 0.2 };
        let mut updates: Vec<Update> = (1..rows).map(|_| self.update(deletes)).collect();
        // One upsert at least, at any place: its serial tells uploads apart.
        let place = self.rng.random_range(0..=updates.len());
        let upsert = self.update(0.0);
        updates.insert(place, upsert);
        let repeats = self.rng.random_ratio(1, 4).then(|| self.rng.random_range(0..3));
        Upload { repeats, updates }
    }

    fn update(&mut self, deletes: f64) -> Update {
        if self.rng.random_bool(deletes) {
            return self.scenario.tombstone(&mut self.rng);
        }
        self.serial += 1;
        let mut point = self.scenario.point(&mut self.rng, self.serial);
        if self.scenario.perishes {
            // From an hour ago to ten hours ahead; or never.
            let minutes = match self.rng.random_ratio(1, 30) {
                true => 100 * 365 * 24 * 60,
                false => self.rng.random_range(-6..60) * 10,
            };
            let at = i64::try_from(self.elapsed_ms).unwrap_or(0) * 1_000 + minutes * 60_000_000;
            point.attributes.insert("at".to_owned(), AttributeValue::DateTime(at));
        }
        Update::Upsert(point)
    }

    fn search(&mut self) -> Search {
        let index = self.index();
        let queries = if self.rng.random_ratio(1, 6) { self.rng.random_range(2..5) } else { 1 };
        let k = match self.rng.random_range(0..10) {
            0..6 => 10,
            6..9 => self.rng.random_range(1..40),
            _ => 1_000,
        };
        let shape = self.shape_sometimes(index);
        // Only of the first of two indices an answer says which version it shows.
        let eventual = self.rng.random_ratio(1, 5) && shape.as_ref().is_none_or(|shape| shape.beside.is_none());
        let at_least = match self.rng.random_range(0..20) {
            0..2 => AtLeast::Acknowledged,
            2 => AtLeast::Future,
            _ => AtLeast::Any,
        };
        Search {
            index,
            queries: (0..queries).map(|_| self.scenario.vector(&mut self.rng)).collect(),
            k,
            scope: Scope { split_filter: self.split_filter(index), filter: self.filter_sometimes() },
            eventual,
            at_least,
            exact: self.rng.random_ratio(1, 6),
            cold: self.rng.random_ratio(1, 5),
            vectors: self.rng.random_ratio(1, 3),
            attributes: self
                .rng
                .random_ratio(1, 10)
                .then(|| ["colour", "id", "region", "split"].map(str::to_owned).into()),
            rank: self.rank_sometimes(shape.is_some()),
            shape,
            as_of: self.as_of_sometimes(),
            deadline_ms: self.rng.random_ratio(1, 20).then(|| [0, 1, 40][self.rng.random_range(0..3)]),
            twice: self.rng.random_ratio(1, 12),
        }
    }

    fn split_filter(&mut self, index: usize) -> Attributes {
        let mut filter = Attributes::new();
        for key in &self.scenario.indices[index].split_attributes {
            if self.rng.random_ratio(2, 3) {
                filter.insert(key.clone(), self.scenario.value(&mut self.rng, key));
            }
        }
        filter
    }

    fn filter_sometimes(&mut self) -> Option<Filter> {
        self.rng.random_ratio(1, 3).then(|| self.filter(3))
    }

    fn filter(&mut self, depth: u32) -> Filter {
        let parts = self.rng.random_range(0..4);
        match self.rng.random_range(0..if depth == 0 { 6 } else { 9 }) {
            0..3 => self.comparison(),
            3 => {
                let (attribute, _) = self.attribute();
                let mut values: Vec<_> = (0..parts).map(|_| self.scenario.value(&mut self.rng, &attribute)).collect();
                values.sort_by(|a, b| a.compare(b).unwrap_or(std::cmp::Ordering::Equal));
                values.dedup();
                Filter::In { attribute, values }
            }
            4 => Filter::Exists { attribute: self.attribute().0 },
            5 => {
                let prefix = ["", "r", "red", "reddish!", "blau ü"][self.rng.random_range(0..5)];
                Filter::StartsWith { attribute: "colour".to_owned(), prefix: prefix.to_owned() }
            }
            6 => Filter::And((0..parts).map(|_| self.filter(depth - 1)).collect()),
            7 => Filter::Or((0..parts).map(|_| self.filter(depth - 1)).collect()),
            _ => Filter::Not(Box::new(self.filter(depth - 1))),
        }
    }

    fn comparison(&mut self) -> Filter {
        use CompareOp::{Eq, Gt, Gte, Lt, Lte, Ne};
        let (attribute, attribute_type) = self.attribute();
        let operators = if attribute_type == AttributeType::Bool { 2 } else { 6 };
        let op = [Eq, Ne, Lt, Lte, Gt, Gte][self.rng.random_range(0..operators)];
        let value = self.scenario.value(&mut self.rng, &attribute);
        Filter::Compare { attribute, op, value }
    }

    fn attribute(&mut self) -> (String, AttributeType) {
        let types = &self.scenario.source.attribute_types;
        let at = self.rng.random_range(0..types.len());
        types.iter().nth(at).map_or_else(|| ("id".to_owned(), AttributeType::Int64), |(key, t)| (key.clone(), *t))
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    #[test]
    fn a_seed_always_gives_the_same_steps() {
        let scenario = Scenario::dense();
        let draw = || format!("{:?}", Generator::new(&scenario, SmallRng::seed_from_u64(7)).take(300));
        assert_eq!(draw(), draw());
    }
}
