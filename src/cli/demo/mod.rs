//! `kagero demo`: Kagero at work with a stand-in for GitHub and a sample application.
//!
//! What runs is the real controller, gateway, agent and database lane; only GitHub is a stand-in, with a
//! real HTTP API and signed webhooks.

mod once;
mod proof;
mod stage;

use std::path::PathBuf;

use clap::Args;

use super::serve::Signals;
use super::{Exit, note};
use stage::Stage;

/// The demo's arguments.
#[derive(Debug, Args)]
pub struct DemoArguments {
    /// Play the whole story without a person, prove each part, and end.
    #[arg(long)]
    once: bool,
    /// Where the demo keeps everything; wiped at its end. Without it: .kagero/demo here, or, where PostgreSQL's
    /// account could not reach that, a folder for temporary files.
    #[arg(long)]
    dir: Option<PathBuf>,
    /// Use the SQLite lane instead of PostgreSQL: nothing has to be installed.
    #[arg(long)]
    sqlite: bool,
}

/// Runs the demo.
pub async fn run(arguments: DemoArguments) -> anyhow::Result<Exit> {
    let dir = arguments.dir.unwrap_or_else(stage::default_dir);
    let stage = Stage::set(&dir, stage::lane(arguments.sqlite)).await?;
    let outcome = if arguments.once { once::play(&stage).await } else { wait_for_person(&stage).await };
    note("taking everything away");
    let struck = stage.strike().await;
    outcome.and(struck).map(|()| Exit::Ok)
}

async fn wait_for_person(stage: &Stage) -> anyhow::Result<()> {
    note("");
    note(&format!("  Open and merge pull requests here:  {}", stage.pulls_url()));
    note(&format!("  Kagero listens for webhooks on:     http://{}", stage.running.http));
    note(&format!("  Previews appear below:              {}", stage.preview_base()));
    note(&format!("  Look at it from another terminal:   kagero -c {} env list", stage.config_path().display()));
    note("");
    note("  Ctrl-C takes everything away again.");
    note("");
    Signals::listen()?.told_to_end().await;
    Ok(())
}
