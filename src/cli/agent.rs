//! `kagero agent`: runs one environment's agent from the directory that holds its options.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;
use serde::Deserialize;

use super::Exit;
use crate::agent::options::AgentOptions;
use crate::agent::signature::ControllerKey;
use crate::domain::assignment::SandboxLevel;
use crate::domain::id::{EnvUid, Generation};

/// The agent's arguments: a directory, and nothing secret.
#[derive(Debug, Args)]
pub struct AgentArguments {
    /// The machine's directory.
    #[arg(long)]
    dir: PathBuf,
    /// Only write the options of a machine of its own, which come as JSON on standard input.
    #[arg(long)]
    init: bool,
}

/// What a machine of its own is told at birth.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Birth {
    uid: EnvUid,
    generation: Generation,
    public_key: ControllerKey,
    port: u16,
    /// Files that every process may read.
    #[serde(default)]
    readable: Vec<PathBuf>,
}

/// Runs until told to stop.
pub async fn run(arguments: &AgentArguments) -> anyhow::Result<Exit> {
    if arguments.init {
        init(&arguments.dir)?;
    } else {
        crate::agent::run_from_dir(&arguments.dir).await?;
    }
    Ok(Exit::Ok)
}

fn init(dir: &Path) -> anyhow::Result<()> {
    let birth: Birth = serde_json::from_reader(std::io::stdin()).context("standard input holds no options")?;
    std::fs::create_dir_all(dir).with_context(|| format!("{} cannot be made", dir.display()))?;
    let dir = dir.canonicalize()?;
    let mut options =
        AgentOptions::new(birth.uid, birth.generation, birth.public_key, &dir, &dir.with_file_name("mirrors"));
    options.listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, birth.port));
    // What it runs is a pull request's, and the machine's root is not.
    options.sandbox.weakest = SandboxLevel::Bubblewrap;
    options.sandbox.read_only_paths = birth.readable;
    options.save().with_context(|| format!("the options cannot be written into {}", dir.display()))
}
