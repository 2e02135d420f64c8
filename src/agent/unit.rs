//! One thing that runs: a process in the sandbox, or a container. Whoever supervises it need not know which.
//!
//! Guarantees: what is started is given its variables and, if it listens, its port in `PORT`; after [`Unit::stop`] or
//! [`Unit::kill`] nothing of it runs.
//! Must not know: why it runs, what follows from its end.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::ExitStatus;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::container::{ContainerPlan, Running};
use super::logs::Log;
use super::sandbox::{Confined, Rooms, Sandbox};

/// How long a process's streams may stay open after it has ended.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What is needed to start it.
#[derive(Clone)]
pub enum Recipe {
    /// A shell command in the sandbox.
    Process(Box<ProcessPlan>),
    /// A container.
    Container(Box<ContainerPlan>),
}

/// All that a process is made from.
#[derive(Clone)]
pub struct ProcessPlan {
    /// The command.
    pub run: String,
    /// Its directories.
    pub rooms: Rooms,
    /// Its confinement.
    pub sandbox: Sandbox,
}

impl Recipe {
    /// Starts it. `address`: where visitors will find it, if it listens.
    pub async fn start(&self, env: &BTreeMap<String, String>, address: Option<SocketAddr>) -> io::Result<Unit> {
        match self {
            Self::Process(plan) => {
                let mut env = env.clone();
                if let Some(address) = address {
                    env.insert("PORT".to_owned(), address.port().to_string());
                    env.insert("HOST".to_owned(), address.ip().to_string());
                }
                Ok(Unit::Process(plan.sandbox.start(&plan.rooms, &plan.run, &env)?, None))
            }
            Self::Container(plan) => plan.start(env, address).await.map(Unit::Container),
        }
    }
}

/// What runs.
pub enum Unit {
    /// A process, and who listens to it.
    Process(Confined, Option<JoinHandle<()>>),
    /// A container.
    Container(Running),
}

impl Unit {
    /// Puts everything that it says into the log.
    pub fn listen(&mut self, log: &Log) {
        match self {
            Self::Process(process, listening) => {
                let output = process.output();
                let (out, err) = (log.clone(), log.clone());
                *listening = Some(tokio::spawn(async move {
                    tokio::join!(out.drain(output.stdout), err.drain(output.stderr));
                }));
            }
            Self::Container(container) => container.listen(log),
        }
    }

    /// Waits until it ends.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        match self {
            Self::Process(process, _) => process.wait().await,
            Self::Container(container) => container.wait().await,
        }
    }

    /// Whether whatever answers at the port is it.
    pub async fn has_port(&self, port: u16) -> bool {
        match self {
            Self::Process(process, _) => process.listens(port),
            Self::Container(container) => container.publishes(port).await,
        }
    }

    /// Whether somebody else accepts connections for it, whether or not it listens itself.
    pub fn is_behind_a_proxy(&self) -> bool {
        matches!(self, Self::Container(_))
    }

    /// What to do where nothing listens on its port.
    pub fn advice(&self) -> &'static str {
        match self {
            Self::Process(..) => "let the command listen on the variable PORT",
            Self::Container(_) => {
                "let the container listen at 0.0.0.0 on the variable PORT, or set `port` to what it listens on"
            }
        }
    }

    /// Of what has ended: more than its exit status tells.
    pub async fn cause(&self) -> &'static str {
        match self {
            Self::Container(container) if container.ran_out_of_memory().await => " (it took more memory than it may)",
            _ => "",
        }
    }

    /// Asks it to end, then kills what has not.
    pub async fn stop(&mut self, grace: Duration) {
        match self {
            Self::Process(process, _) => process.stop(grace).await,
            Self::Container(container) => container.stop(grace).await,
        }
    }

    /// Kills it.
    pub async fn kill(&mut self) {
        match self {
            Self::Process(process, _) => process.kill().await,
            Self::Container(container) => container.kill().await,
        }
    }

    /// Waits for the last words of what was killed, for as long as that may take.
    pub async fn last_words(&mut self) {
        if let Self::Process(_, Some(listening)) = self
            && tokio::time::timeout(LAST_WORDS, &mut *listening).await.is_err()
        {
            listening.abort();
        }
    }
}
