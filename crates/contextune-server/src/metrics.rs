//! What the server counts, in Prometheus' text format.

use std::time::Duration;

use contextune::run::peak_memory_bytes;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

/// All counters.
#[derive(Debug)]
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    seconds: Family<PathLabel, Histogram>,
    pictures: Family<ModelLabel, Counter>,
    batches: Histogram,
    waiting: Gauge,
    connections: Gauge,
    memory: Gauge,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    path: String,
    status: u16,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PathLabel {
    path: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct ModelLabel {
    model: String,
}

impl Metrics {
    /// Creates and registers the counters.
    pub fn new() -> Self {
        let requests = Family::default();
        // 1 ms to 32 s.
        let seconds = Family::new_with_constructor(
            (|| Histogram::new(exponential_buckets(0.001, 2.0, 16))) as fn() -> Histogram,
        );
        let pictures = Family::default();
        let batches = Histogram::new(exponential_buckets(1.0, 2.0, 8));
        let (waiting, connections, memory) = <(Gauge, Gauge, Gauge)>::default();
        let mut registry = Registry::with_prefix("contextune");
        registry.register(
            "requests",
            "Requests answered, by path and status",
            requests.clone(),
        );
        registry.register_with_unit(
            "request_duration",
            "Time from the head of a request to its answer",
            Unit::Seconds,
            seconds.clone(),
        );
        registry.register(
            "waiting_pictures",
            "Pictures of requests that are not answered yet",
            waiting.clone(),
        );
        registry.register(
            "pictures",
            "Pictures classified, by model",
            pictures.clone(),
        );
        registry.register(
            "batch_pictures",
            "Pictures that went through the tower together",
            batches.clone(),
        );
        registry.register("connections", "Open connections", connections.clone());
        registry.register_with_unit(
            "memory_peak",
            "Largest resident memory so far",
            Unit::Bytes,
            memory.clone(),
        );
        Self {
            registry,
            requests,
            seconds,
            pictures,
            batches,
            waiting,
            connections,
            memory,
        }
    }

    /// Counts a request that was answered.
    pub fn request(&self, path: &str, status: u16, took: Duration) {
        let path = path.to_owned();
        self.seconds
            .get_or_create(&PathLabel { path: path.clone() })
            .observe(took.as_secs_f64());
        self.requests
            .get_or_create(&RequestLabels { path, status })
            .inc();
    }

    /// Counts a batch of pictures that goes through the image tower.
    pub fn batch(&self, pictures: usize) {
        self.batches.observe(pictures as f64);
    }

    /// Counts pictures that `model` classified.
    pub fn answered(&self, model: &str, pictures: usize) {
        let model = ModelLabel {
            model: model.to_owned(),
        };
        self.pictures.get_or_create(&model).inc_by(pictures as u64);
    }

    /// Counts a connection as open while the returned value lives.
    pub fn connection(&self) -> OpenConnection {
        self.connections.inc();
        OpenConnection(self.connections.clone())
    }

    /// Returns all counters as text, with `waiting` pictures in the queue.
    pub fn text(&self, waiting: usize) -> String {
        self.waiting.set(waiting as i64);
        self.memory
            .set(peak_memory_bytes().unwrap_or_default() as i64);
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("writing to a string does not fail");
        text
    }
}

/// See [`Metrics::connection`].
#[derive(Debug)]
pub(crate) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_counted_is_in_the_text() {
        let metrics = Metrics::new();
        metrics.request("/v1/predict", 200, Duration::from_millis(3));
        metrics.request("/v1/predict", 200, Duration::from_millis(5));
        metrics.request("/v1/predict", 422, Duration::from_millis(1));
        metrics.batch(3);
        metrics.batch(32);
        metrics.answered("my \"pets\"", 35);
        let first = metrics.connection();
        let second = metrics.connection();
        drop(first);
        let text = metrics.text(7);
        for line in [
            "contextune_requests_total{path=\"/v1/predict\",status=\"200\"} 2",
            "contextune_requests_total{path=\"/v1/predict\",status=\"422\"} 1",
            "contextune_request_duration_seconds_count{path=\"/v1/predict\"} 3",
            "contextune_pictures_total{model=\"my \\\"pets\\\"\"} 35",
            "contextune_batch_pictures_sum 35.0",
            "contextune_batch_pictures_count 2",
            "contextune_waiting_pictures 7",
            "contextune_connections 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.ends_with("# EOF\n"), "{text}");
        drop(second);
        assert!(metrics.text(0).contains("\ncontextune_connections 0\n"));
    }
}
