//! Counters and histograms, as Prometheus text.
//!
//! A registry of its own: labels are the route's template, the method and the status, all from fixed sets, so that no
//! request can make it grow.

use std::collections::BTreeMap;
use std::fmt::{self, Write};
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

/// Upper bounds of the latency buckets, in seconds.
const BUCKETS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// A counter that somebody else keeps.
#[derive(Clone, Copy, Debug)]
pub struct Counter {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// What it counts.
    pub help: &'static str,
    /// The count.
    pub value: u64,
}

/// A value with labels that somebody else keeps. Series of one name stand together.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// As Prometheus knows it.
    pub name: &'static str,
    /// What it is.
    pub help: &'static str,
    /// `counter` or `gauge`.
    pub kind: &'static str,
    /// Of a bounded set: whoever keeps the values sees to that.
    pub labels: Vec<(&'static str, String)>,
    /// The value.
    pub value: f64,
}

type AllSeries = Box<dyn Fn() -> Vec<Series> + Send + Sync>;
type Counters = Box<dyn Fn() -> Vec<Counter> + Send + Sync>;

/// Parts of the process that keep counters of their own.
#[derive(Default)]
struct Others {
    counters: Mutex<Vec<Counters>>,
    series: Mutex<Vec<AllSeries>>,
}

impl fmt::Debug for Others {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Others").field("counters", &self.counters.lock().len()).finish_non_exhaustive()
    }
}

/// The counters of one process.
#[derive(Debug, Default)]
pub struct Metrics {
    routes: Mutex<BTreeMap<(String, String), RouteStats>>,
    in_flight: AtomicI64,
    uploads: AtomicU64,
    points: AtomicU64,
    tombstones: AtomicU64,
    upload_bytes: AtomicU64,
    searches: AtomicU64,
    query_vectors: AtomicU64,
    panics: AtomicU64,
    others: Others,
}

#[derive(Debug, Default)]
struct RouteStats {
    by_status: BTreeMap<u16, u64>,
    buckets: [u64; BUCKETS.len()],
    count: u64,
    seconds: f64,
}

impl Metrics {
    /// A request was answered.
    pub fn request(&self, route: &str, method: &str, status: u16, took: Duration) {
        let seconds = took.as_secs_f64();
        let mut routes = self.routes.lock();
        let stats = routes.entry((route.to_owned(), method.to_owned())).or_default();
        *stats.by_status.entry(status).or_default() += 1;
        stats.count += 1;
        stats.seconds += seconds;
        for (bucket, bound) in stats.buckets.iter_mut().zip(BUCKETS) {
            if seconds <= bound {
                *bucket += 1;
            }
        }
    }

    /// An upload of points and tombstones was committed.
    pub fn upload(&self, points: u64, tombstones: u64, body_bytes: u64) {
        self.uploads.fetch_add(1, Ordering::Relaxed);
        self.points.fetch_add(points, Ordering::Relaxed);
        self.tombstones.fetch_add(tombstones, Ordering::Relaxed);
        self.upload_bytes.fetch_add(body_bytes, Ordering::Relaxed);
    }

    /// A search was answered.
    pub fn search(&self, query_vectors: u64) {
        self.searches.fetch_add(1, Ordering::Relaxed);
        self.query_vectors.fetch_add(query_vectors, Ordering::Relaxed);
    }

    /// From now on shows the counters of another part of the process, too.
    pub fn show(&self, counters: impl Fn() -> Vec<Counter> + Send + Sync + 'static) {
        self.others.counters.lock().push(Box::new(counters));
    }

    /// Adds series that somebody else keeps.
    pub fn show_series(&self, series: impl Fn() -> Vec<Series> + Send + Sync + 'static) {
        self.others.series.lock().push(Box::new(series));
    }

    /// A handler panicked.
    pub(crate) fn panicked(&self) {
        self.panics.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts a request as in flight until the guard is dropped.
    pub(crate) fn enter(self: &std::sync::Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(std::sync::Arc::clone(self))
    }

    /// The text format of Prometheus, version 0.0.4.
    pub fn render(&self) -> String {
        let mut text = String::new();
        let counter = |text: &mut String, name: &str, help: &str, value: u64| {
            let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}");
        };
        let load = |value: &AtomicU64| value.load(Ordering::Relaxed);
        counter(&mut text, "tarn_uploads_total", "Uploads committed.", load(&self.uploads));
        counter(&mut text, "tarn_uploaded_points_total", "Points in committed uploads.", load(&self.points));
        counter(
            &mut text,
            "tarn_uploaded_tombstones_total",
            "Tombstones in committed uploads.",
            load(&self.tombstones),
        );
        counter(&mut text, "tarn_uploaded_bytes_total", "Body bytes of committed uploads.", load(&self.upload_bytes));
        counter(&mut text, "tarn_searches_total", "Searches answered.", load(&self.searches));
        counter(
            &mut text,
            "tarn_query_vectors_total",
            "Query vectors of searches answered.",
            load(&self.query_vectors),
        );
        counter(&mut text, "tarn_panics_total", "Requests whose handler panicked.", load(&self.panics));
        for Counter { name, help, value } in self.others.counters.lock().iter().flat_map(|counters| counters()) {
            counter(&mut text, name, help, value);
        }
        let mut last = "";
        for Series { name, help, kind, labels, value } in self.others.series.lock().iter().flat_map(|series| series()) {
            if name != last {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
                last = name;
            }
            let labels: Vec<String> =
                labels.iter().map(|(label, value)| format!("{label}=\"{}\"", escaped(value))).collect();
            let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
        }
        let in_flight = self.in_flight.load(Ordering::Relaxed);
        let _ = writeln!(
            text,
            "# HELP tarn_http_requests_in_flight Requests being answered.\n\
             # TYPE tarn_http_requests_in_flight gauge\ntarn_http_requests_in_flight {in_flight}"
        );
        self.render_routes(&mut text);
        text
    }

    fn render_routes(&self, text: &mut String) {
        let routes = self.routes.lock();
        text.push_str("# HELP tarn_http_requests_total Requests answered.\n# TYPE tarn_http_requests_total counter\n");
        for ((route, method), stats) in routes.iter() {
            for (status, count) in &stats.by_status {
                let labels = format!("route=\"{route}\",method=\"{method}\",status=\"{status}\"");
                let _ = writeln!(text, "tarn_http_requests_total{{{labels}}} {count}");
            }
        }
        text.push_str(
            "# HELP tarn_http_request_duration_seconds Time to the answer's headers.\n\
             # TYPE tarn_http_request_duration_seconds histogram\n",
        );
        let name = "tarn_http_request_duration_seconds";
        for ((route, method), stats) in routes.iter() {
            let labels = format!("route=\"{route}\",method=\"{method}\"");
            for (bound, count) in BUCKETS.iter().zip(stats.buckets) {
                let _ = writeln!(text, "{name}_bucket{{{labels},le=\"{bound}\"}} {count}");
            }
            let _ = writeln!(text, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", stats.count);
            let _ =
                writeln!(text, "{name}_sum{{{labels}}} {}\n{name}_count{{{labels}}} {}", stats.seconds, stats.count);
        }
    }
}

/// A label's value as Prometheus reads it.
fn escaped(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

/// A request in flight.
pub(crate) struct InFlight(std::sync::Arc<Metrics>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_counted_by_route_method_and_status() {
        let metrics = Metrics::default();
        metrics.request("/api/v1/info", "GET", 200, Duration::from_millis(3));
        metrics.request("/api/v1/info", "GET", 200, Duration::from_secs(100));
        metrics.request("/api/v1/info", "GET", 404, Duration::from_millis(3));
        metrics.upload(7, 2, 1000);
        metrics.show(|| vec![Counter { name: "tarn_other_total", help: "Others.", value: 3 }]);
        let text = metrics.render();
        for line in [
            "tarn_http_requests_total{route=\"/api/v1/info\",method=\"GET\",status=\"200\"} 2",
            "tarn_http_requests_total{route=\"/api/v1/info\",method=\"GET\",status=\"404\"} 1",
            "tarn_http_request_duration_seconds_bucket{route=\"/api/v1/info\",method=\"GET\",le=\"0.0025\"} 0",
            "tarn_http_request_duration_seconds_bucket{route=\"/api/v1/info\",method=\"GET\",le=\"0.005\"} 2",
            "tarn_http_request_duration_seconds_bucket{route=\"/api/v1/info\",method=\"GET\",le=\"60\"} 2",
            "tarn_http_request_duration_seconds_bucket{route=\"/api/v1/info\",method=\"GET\",le=\"+Inf\"} 3",
            "tarn_other_total 3",
            "tarn_uploaded_points_total 7",
            "tarn_uploaded_tombstones_total 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} in\n{text}");
        }
    }
}
