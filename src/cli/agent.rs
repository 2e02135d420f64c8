//! `kagero agent`: runs one environment's agent from the directory that holds its options.

use std::path::PathBuf;

use clap::Args;

use super::Exit;

/// The agent's arguments: a directory, and nothing secret.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// The machine's directory.
    #[arg(long)]
    dir: PathBuf,
}

/// Runs until told to stop.
pub async fn run(arguments: &AgentArguments) -> anyhow::Result<Exit> {
    crate::agent::run_from_dir(&arguments.dir).await?;
    Ok(Exit::Ok)
}
