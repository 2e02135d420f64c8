//! The gateway's metrics, taken once at its start: the recorder has to be installed before.
//!
//! Guarantees: no identity in a label.

use metrics::{Counter, Gauge, Histogram};

/// Every metric of the gateway.
pub(super) struct Meter {
    /// Requests that the application answered.
    pub proxied: Counter,
    /// Requests answered with a page, by its kind.
    pub pages: fn(&'static str) -> Counter,
    /// Requests that name no host, or that are no request.
    pub refused: Counter,
    /// Requests that the application should have answered and did not.
    pub failed: Counter,
    /// Requests sent a second time, because a kept connection had been closed.
    pub retried: Counter,
    /// Connections made to upstreams.
    pub connects: Counter,
    /// Clients' connections.
    pub connections: Gauge,
    /// WebSockets.
    pub tunnels: Gauge,
    /// From the request to the first sign of the application's answer.
    pub upstream_seconds: Histogram,
}

impl Meter {
    pub(super) fn new() -> Self {
        const REQUESTS: &str = "kagero_gateway_requests_total";
        metrics::describe_counter!(REQUESTS, "Requests, by what became of them.");
        metrics::describe_counter!("kagero_gateway_pages_total", "Pages of the gateway's own, by kind.");
        metrics::describe_counter!("kagero_gateway_retries_total", "Requests sent again over a new connection.");
        metrics::describe_counter!("kagero_gateway_connects_total", "Connections made to upstreams.");
        metrics::describe_gauge!("kagero_gateway_connections", "Clients' connections.");
        metrics::describe_gauge!("kagero_gateway_tunnels", "WebSockets.");
        metrics::describe_histogram!(
            "kagero_gateway_upstream_seconds",
            metrics::Unit::Seconds,
            "From a request to the first sign of the application's answer."
        );
        Self {
            proxied: metrics::counter!(REQUESTS, "outcome" => "proxied"),
            pages: |kind| metrics::counter!("kagero_gateway_pages_total", "page" => kind),
            refused: metrics::counter!(REQUESTS, "outcome" => "refused"),
            failed: metrics::counter!(REQUESTS, "outcome" => "failed"),
            retried: metrics::counter!("kagero_gateway_retries_total"),
            connects: metrics::counter!("kagero_gateway_connects_total"),
            connections: metrics::gauge!("kagero_gateway_connections"),
            tunnels: metrics::gauge!("kagero_gateway_tunnels"),
            upstream_seconds: metrics::histogram!("kagero_gateway_upstream_seconds"),
        }
    }
}

/// Counts something up for as long as it exists.
pub(super) struct Present(Gauge);

impl Present {
    pub(super) fn of(gauge: &Gauge) -> Self {
        gauge.increment(1.0);
        Self(gauge.clone())
    }
}

impl Drop for Present {
    fn drop(&mut self) {
        self.0.decrement(1.0);
    }
}
