//! Who computes when, with clocks that stand still.

use std::sync::mpsc;

use super::*;

/// A clock that goes when it is told to.
#[derive(Debug, Default)]
struct Hands(AtomicU64);

impl Hands {
    fn move_on(&self, by: Duration) {
        self.0.fetch_add(nanos(by), Ordering::SeqCst);
    }
}

#[async_trait::async_trait]
impl Clock for Hands {
    fn now_ms(&self) -> i64 {
        0
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.0.load(Ordering::SeqCst))
    }

    async fn sleep(&self, duration: Duration) {
        self.move_on(duration);
    }
}

const DEADLINE: Duration = Duration::from_secs(600);

fn turns(processors: usize) -> (Turns, Arc<Hands>) {
    let clock = Arc::new(Hands::default());
    (Turns::new(processors, clock.clone()).unwrap(), clock)
}

/// A search that notes its name each time that it asks, and computes the longest turn's time between.
fn search(
    turns: &Turns,
    clock: &Arc<Hands>,
    name: char,
    asks: usize,
    notes: mpsc::Sender<char>,
) -> tokio::task::JoinHandle<Option<usize>> {
    let (turns, clock) = (turns.clone(), Arc::clone(clock));
    tokio::spawn(async move {
        let job = move |turn: &Turn| {
            for asked in 0..asks {
                if turn.is_over() {
                    return Ok(asked);
                }
                notes.send(name).unwrap();
                clock.move_on(LONGEST_TURN);
            }
            Ok(asks)
        };
        turns.run(DEADLINE, job).await.unwrap()
    })
}

/// Waits until so many are in line.
async fn in_line(turns: &Turns, count: usize) {
    while turns.inner.line.lock().waiting() != count {
        tokio::task::yield_now().await;
    }
}

/// Holds the only processor until told to go on.
async fn holder(turns: &Turns) -> (tokio::task::JoinHandle<Option<()>>, mpsc::Sender<()>) {
    let (go, gone) = mpsc::channel();
    let (began, has_begun) = tokio::sync::oneshot::channel();
    let holding = turns.clone();
    let held = tokio::spawn(async move {
        let job = move |_: &Turn| {
            began.send(()).unwrap();
            gone.recv().unwrap();
            Ok(())
        };
        holding.run(DEADLINE, job).await.unwrap()
    });
    has_begun.await.unwrap();
    (held, go)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn searches_on_one_processor_take_turns() {
    let (turns, clock) = turns(1);
    let (held, go) = holder(&turns).await;
    let (notes, noted) = mpsc::channel();
    let mut searches = Vec::new();
    for (at, name) in "abc".chars().enumerate() {
        searches.push(search(&turns, &clock, name, 4, notes.clone()));
        in_line(&turns, at + 1).await;
    }
    drop(notes);
    go.send(()).unwrap();
    assert_eq!(held.await.unwrap(), Some(()));
    for search in searches {
        assert_eq!(search.await.unwrap(), Some(4), "it came to its end");
    }
    let order: String = noted.iter().collect();
    // New ones go between those that have had a turn, and then all go round.
    let last_first = "abc".chars().map(|name| order.find(name).unwrap()).max().unwrap();
    assert!(last_first <= 4, "{order}: each has its first turn before anybody has many");
    let ends: Vec<usize> = "abc".chars().map(|name| order.rfind(name).unwrap()).collect();
    assert!(ends.iter().all(|&end| end >= 8), "{order}: none ends long before the others");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_had_no_turn_at_the_deadline_has_no_answer_and_is_not_begun() {
    let (turns, clock) = turns(1);
    let (held, go) = holder(&turns).await;
    let (notes, noted) = mpsc::channel();
    let late = search(&turns, &clock, 'l', 4, notes);
    in_line(&turns, 1).await;
    // It waits by the machine's clock for as long as is left by this one, or until it is called: after the deadline.
    clock.move_on(DEADLINE);
    for place in &turns.inner.line.lock().new {
        place.call.notify_one();
    }
    assert_eq!(late.await.unwrap(), None, "while the processor is still held");
    assert_eq!(noted.iter().count(), 0);
    go.send(()).unwrap();
    assert_eq!(held.await.unwrap(), Some(()));
    assert_eq!(turns.inner.line.lock().free, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whose_deadline_comes_while_others_have_their_turn_answers_with_what_it_has() {
    let (turns, clock) = turns(1);
    let (held, go) = holder(&turns).await;
    let (notes, noted) = mpsc::channel();
    let first = search(&turns, &clock, 'f', 1_000_000, notes);
    in_line(&turns, 1).await;
    let (second_held, second_go) = {
        let (go, gone) = mpsc::channel();
        let turns = turns.clone();
        let job = move |_: &Turn| {
            gone.recv().unwrap();
            Ok(())
        };
        (tokio::spawn(async move { turns.run(2 * DEADLINE, job).await.unwrap() }), go)
    };
    in_line(&turns, 2).await;
    go.send(()).unwrap();
    held.await.unwrap();
    // The first has had a turn, and stands in line behind the second, who does not stop.
    assert_eq!(noted.recv().unwrap(), 'f');
    while turns.inner.line.lock().others.is_empty() {
        tokio::task::yield_now().await;
    }
    clock.move_on(DEADLINE);
    for place in &turns.inner.line.lock().others {
        place.call.notify_one();
    }
    let asked = first.await.unwrap().unwrap();
    assert!(asked > 0, "{asked}");
    second_go.send(()).unwrap();
    assert_eq!(second_held.await.unwrap(), Some(()));
    assert_eq!(turns.inner.line.lock().free, 1, "who gave up its processor gives none back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_searches_than_places_are_left_out_at_their_deadline() {
    let (turns, clock) = turns(1);
    let (held, go) = holder(&turns).await;
    let (notes, _noted) = mpsc::channel();
    let waiting: Vec<_> = (1..SEARCHES_PER_PROCESSOR).map(|_| search(&turns, &clock, 'w', 1, notes.clone())).collect();
    in_line(&turns, SEARCHES_PER_PROCESSOR - 1).await;
    // This clock's sleep ends at once.
    assert_eq!(search(&turns, &clock, 'x', 1, notes).await.unwrap(), None);
    go.send(()).unwrap();
    held.await.unwrap();
    for search in waiting {
        // The deadline is over for them too; some had a turn before they noticed.
        search.await.unwrap();
    }
    assert_eq!(turns.inner.line.lock().free, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_that_is_alone_has_all_threads_and_others_have_one() {
    let (turns, _clock) = turns(2);
    let threads = |_: &Turn| Ok(rayon::current_num_threads());
    assert_eq!(turns.run(DEADLINE, threads).await.unwrap(), Some(2));
    let (held, go) = holder(&turns).await;
    assert_eq!(turns.run(DEADLINE, threads).await.unwrap(), Some(1));
    go.send(()).unwrap();
    held.await.unwrap();
    assert_eq!(turns.run(DEADLINE, threads).await.unwrap(), Some(2));
}

#[tokio::test]
async fn a_panic_is_an_error_and_gives_its_processor_back() {
    let (turns, _clock) = turns(1);
    let failed = turns.run::<()>(DEADLINE, |_| panic!("at row {}", 7)).await.unwrap_err();
    assert!(failed.to_string().contains("at row 7"), "{failed}");
    assert_eq!(turns.run(DEADLINE, |_| Ok(1)).await.unwrap(), Some(1));
}

#[test]
fn turns_are_as_long_as_the_most_pressing_deadline_allows() {
    let ms = Duration::from_millis;
    let place = |deadline| Arc::new(Place { deadline, is_called: AtomicBool::new(false), call: Condvar::new() });
    let line = |deadlines: &[u64]| Line {
        free: 0,
        new: deadlines.iter().map(|&deadline| place(ms(deadline))).collect(),
        others: VecDeque::from([place(ms(1_000))]),
        was_new: false,
    };
    assert_eq!(line(&[]).turn(ms(0), 2), LONGEST_TURN, "there is time for everybody");
    assert_eq!(line(&[108, 109, 110]).turn(ms(100), 2), ms(8) / 3, "four wait, two compute");
    assert_eq!(line(&[101]).turn(ms(100), 2), SHORTEST_TURN);
    assert_eq!(line(&[99]).turn(ms(100), 2), SHORTEST_TURN, "somebody is late already");
}

#[tokio::test]
async fn a_search_stops_a_little_before_its_deadline() {
    let (turns, clock) = turns(1);
    let moved = Arc::clone(&clock);
    let stopped = |deadline: u64| {
        let (clock, began) = (Arc::clone(&moved), moved.monotonic());
        let job = move |turn: &Turn| {
            while !turn.is_over() {
                clock.move_on(Duration::from_micros(100));
            }
            Ok(clock.monotonic().saturating_sub(began))
        };
        let turns = turns.clone();
        async move { turns.run(began + Duration::from_millis(deadline), job).await.unwrap() }
    };
    assert_eq!(stopped(100).await, Some(Duration::from_millis(97)));
    assert_eq!(stopped(6).await, Some(Duration::from_millis(4)));
}
