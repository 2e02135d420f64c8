//! The application that the demo previews: a shop's order desk with a page, a worker and migrations. It is
//! not part of Kagero and knows nothing of it but the variable `KAGERO_COMMIT`.
//!
//! `shop web`, `shop worker` and `shop migrate` run in a checkout of `examples/shop-repo`: how the pages look
//! and which columns they show stands there, so that every commit can look different.

mod database;
mod migrate;
mod orders;
mod theme;
mod web;
mod worker;

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::fmt().with_writer(std::io::stderr).with_ansi(false).with_target(false).init();
    match run(std::env::args().nth(1).as_deref()).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn run(command: Option<&str>) -> anyhow::Result<()> {
    let here = Path::new(".");
    match command {
        Some("web") => {
            let port = std::env::var("PORT").context("PORT is not set: it names the port to listen on")?;
            let port = port.parse().with_context(|| format!("PORT is {port:?}, not a port number"))?;
            web::serve(database::connect().await?, theme::Theme::read(here)?, port, ended()?).await
        }
        Some("worker") => worker::run(&database::connect().await?, ended()?).await,
        Some("migrate") => migrate::run(&database::connect().await?, &here.join("migrations")).await,
        other => anyhow::bail!("usage: shop web|worker|migrate, not {:?}", other.unwrap_or("nothing")),
    }
}

/// Resolves at SIGTERM or SIGINT.
fn ended() -> anyhow::Result<impl Future<Output = ()> + Send + 'static> {
    let mut terminate = signal(SignalKind::terminate()).context("SIGTERM cannot be watched")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("SIGINT cannot be watched")?;
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
    })
}
