//! Times on a machine that others use, too: minima over repetitions, in chunks short enough to fall between disturbances.

use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};

/// Queries that are timed together.
const CHUNK: usize = 100;

/// Seconds for each query: by the clock, and of the thread's processor time.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Times {
    pub(crate) wall: f64,
    pub(crate) cpu: f64,
}

/// Runs `query(0)` to `query(count − 1)` again and again, and adds up the least time that each chunk took.
pub(crate) fn least(count: usize, repetitions: usize, mut query: impl FnMut(usize)) -> Times {
    let mut best = vec![(f64::INFINITY, f64::INFINITY); count.div_ceil(CHUNK)];
    for _ in 0..repetitions.max(1) {
        for (chunk, best) in best.iter_mut().enumerate() {
            let (start, cpu) = (Instant::now(), thread_seconds());
            (chunk * CHUNK..count.min((chunk + 1) * CHUNK)).for_each(&mut query);
            *best = (best.0.min(start.elapsed().as_secs_f64()), best.1.min(thread_seconds() - cpu));
        }
    }
    let (wall, cpu) = best.into_iter().fold((0.0, 0.0), |sum, best| (sum.0 + best.0, sum.1 + best.1));
    Times { wall: wall / count as f64, cpu: cpu / count as f64 }
}

/// The median over queries of the least seconds that each took.
pub(crate) fn median(count: usize, repetitions: usize, mut query: impl FnMut(usize)) -> f64 {
    let mut best = vec![f64::INFINITY; count];
    for _ in 0..repetitions.max(1) {
        for (at, best) in best.iter_mut().enumerate() {
            let start = Instant::now();
            query(at);
            *best = best.min(start.elapsed().as_secs_f64());
        }
    }
    best.sort_unstable_by(f64::total_cmp);
    best[count / 2]
}

/// Processor time of this thread.
fn thread_seconds() -> f64 {
    seconds(ClockId::ThreadCPUTime)
}

/// Processor time of all threads of the process.
pub(crate) fn process_seconds() -> f64 {
    seconds(ClockId::ProcessCPUTime)
}

fn seconds(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 * 1e-9
}
