//! Everything that the controller answers over HTTP.

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use secrecy::SecretString;

use super::{api, auth};
use crate::controller::Desk;

/// The controller's routes: webhook, health, metrics and API.
pub fn router(desk: Desk, webhook: Router, token: SecretString, metrics: Option<MetricsPage>) -> Router {
    let api = api::router(desk).layer(axum::middleware::from_fn_with_state(token, auth::require));
    let mut router = Router::new().route("/healthz", get(healthy)).merge(webhook).merge(api);
    if let Some(metrics) = metrics {
        router = router.merge(Router::new().route("/metrics", get(show_metrics)).with_state(metrics));
    }
    router.fallback(not_found)
}

/// Renders the metrics of this process.
pub type MetricsPage = metrics_exporter_prometheus::PrometheusHandle;

async fn healthy() -> &'static str {
    "ok\n"
}

async fn show_metrics(State(metrics): State<MetricsPage>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], metrics.render())
}

async fn not_found() -> impl IntoResponse {
    (StatusCode::NOT_FOUND, "nothing here; webhooks go to /webhook/github\n")
}
