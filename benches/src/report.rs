//! How figures are reported: always with the machine, always with more than a mean.

use std::fmt;
use std::time::Duration;

/// Minimum, median, 99th percentile of some times.
#[derive(Clone, Copy, Debug)]
pub struct Quantiles {
    /// The shortest.
    pub min: Duration,
    /// The median.
    pub p50: Duration,
    /// The 99th percentile.
    pub p99: Duration,
    /// How many times there were.
    pub samples: usize,
}

impl Quantiles {
    /// Of at least one time.
    ///
    /// # Panics
    /// On an empty list.
    pub fn of(mut times: Vec<Duration>) -> Self {
        times.sort_unstable();
        let at = |q: f64| times[((times.len() - 1) as f64 * q) as usize];
        Self { min: at(0.0), p50: at(0.5), p99: at(0.99), samples: times.len() }
    }
}

impl fmt::Display for Quantiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = |time: Duration| time.as_secs_f64() * 1e6;
        write!(
            f,
            "min {:.0} µs, p50 {:.0} µs, p99 {:.0} µs ({} runs)",
            micros(self.min),
            micros(self.p50),
            micros(self.p99),
            self.samples
        )
    }
}

/// Processor, cores and memory, as Linux tells them.
pub fn machine() -> String {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let cpu = read("/proc/cpuinfo");
    let model = cpu
        .lines()
        .find_map(|line| line.strip_prefix("model name"))
        .map_or("unknown processor", |rest| rest.trim_start_matches([' ', '\t', ':']));
    let memory = read("/proc/meminfo");
    let kib: u64 = memory
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))
        .and_then(|rest| rest.trim().trim_end_matches(" kB").parse().ok())
        .unwrap_or(0);
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    format!("{model}, {cores} cores, {:.0} GiB", kib as f64 / (1024.0 * 1024.0))
}
