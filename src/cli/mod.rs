//! The command line: one file per command.
//!
//! Guarantees: data on standard output, everything else on standard error; exit codes as documented in
//! [`Exit`]; no secret in an argument.
//! Must not know: how anything is done.

mod adopt;
mod agent;
mod api;
mod audit;
mod brake;
mod compute;
mod config;
mod confining;
mod demo;
mod doctor;
mod env;
mod holder;
mod infra;
mod metrics;
pub mod probe;
pub mod residue;
pub mod run;
pub mod secret;
mod serve;
mod sweep;
mod timekeeping;

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::domain::brake::BrakeKind;
use crate::telemetry::{self, LogStyle};

/// Where the operator's configuration is looked for.
pub const DEFAULT_CONFIG: &str = "kagero.toml";

/// Gives every pull request its own running, seeded copy of the product.
#[derive(Debug, Parser)]
#[command(name = "kagero", version, about, max_term_width = 100)]
struct Arguments {
    /// The operator's configuration.
    #[arg(long, short, global = true, env = "KAGERO_CONFIG", default_value = DEFAULT_CONFIG)]
    config: PathBuf,
    /// Write logs as JSON, one object per line.
    #[arg(long, global = true)]
    log_json: bool,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the controller and the gateway.
    Serve,
    /// Show Kagero at work with a stand-in for GitHub and a sample application.
    Demo(demo::DemoArguments),
    /// Look at environments and take them away.
    Env(env::EnvArguments),
    /// Look at the journal of everything that was asked for, and verify it.
    Audit(audit::AuditArguments),
    /// Rebuild a lost store from GitHub and from what lives.
    Adopt(adopt::AdoptArguments),
    /// Find what belongs to no environment, and take away what has been so for a day.
    Sweep(sweep::SweepArguments),
    /// Take nothing away until somebody has looked.
    Freeze(brake::Terms),
    /// End a freeze.
    Thaw,
    /// Do nothing at all, for everything or for one environment.
    Pause(brake::PauseArguments),
    /// End a pause.
    Resume {
        /// `owner/repo#12`, `repo#12` or `12`; without it: everything.
        name: Option<String>,
    },
    /// Keep an environment whatever happens, until then.
    Hold(brake::HoldArguments),
    /// End a hold.
    Unhold {
        /// `owner/repo#12`, `repo#12` or `12`.
        name: String,
    },
    /// Check and explain configurations.
    Config(config::ConfigArguments),
    /// Find out whether this machine and its configuration can do the work.
    Doctor(doctor::DoctorArguments),
    /// Look at what environments need of AWS.
    Infra(infra::InfraArguments),
    /// Print a script that completes commands in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Run one environment's agent. Started by Kagero itself.
    #[command(hide = true)]
    Agent(agent::AgentArguments),
}

/// How a command ends; `docs/command-line.md` explains each to people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// It failed for a reason that has no code of its own.
    Error,
    /// The call was wrong.
    Usage,
    /// It was cancelled, or took too long.
    Cancelled,
    /// Not allowed.
    Unauthorised,
    /// The environment has failed.
    EnvironmentFailed,
    /// A configuration is wrong.
    Config,
    /// There is no such environment.
    NotFound,
    /// The environment is not there yet.
    Pending,
    /// A running process has what is needed.
    Held,
    /// The controller does not answer.
    Unreachable,
    /// The journal was changed.
    Broken,
    /// Something lives that no record tells of.
    Unadopted,
    /// Something belongs to no environment.
    Found,
    /// Nothing may be taken away.
    Frozen,
    /// What was listed is not to be believed.
    Refused,
}

impl Exit {
    /// Every way to end.
    pub const ALL: [Self; 16] = [
        Self::Ok,
        Self::Error,
        Self::Usage,
        Self::Cancelled,
        Self::Unauthorised,
        Self::EnvironmentFailed,
        Self::Config,
        Self::NotFound,
        Self::Pending,
        Self::Held,
        Self::Unreachable,
        Self::Broken,
        Self::Unadopted,
        Self::Found,
        Self::Frozen,
        Self::Refused,
    ];

    /// The code that the process ends with.
    pub fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Error => 1,
            Self::Usage => 2,
            Self::Cancelled => 3,
            Self::Unauthorised => 4,
            Self::EnvironmentFailed => 5,
            Self::Config => 6,
            Self::NotFound => 7,
            Self::Pending => 8,
            Self::Held => 9,
            Self::Unreachable => 10,
            Self::Broken => 11,
            Self::Unadopted => 12,
            Self::Found => 13,
            Self::Frozen => 14,
            Self::Refused => 15,
        }
    }

    /// An error that ends the program in this way.
    fn because(self, text: String) -> anyhow::Error {
        anyhow::Error::new(Failure { exit: self, text })
    }

    /// How the program ends after an error.
    fn after(error: &anyhow::Error) -> Self {
        error.chain().find_map(|cause| cause.downcast_ref::<Failure>()).map_or(Self::Error, |failure| failure.exit)
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that knows how the program ends.
#[derive(Debug, thiserror::Error)]
#[error("{text}")]
struct Failure {
    exit: Exit,
    text: String,
}

/// Runs the program with the process's arguments.
pub fn main() -> ExitCode {
    let arguments = match Arguments::try_parse() {
        Ok(arguments) => arguments,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { Exit::Usage.into() } else { Exit::Ok.into() };
        }
    };
    telemetry::init(if arguments.log_json { LogStyle::Json } else { LogStyle::Text });
    // The agent keeps to one thread: there is one agent per environment.
    let runtime = match &arguments.command {
        Command::Agent(_) => tokio::runtime::Builder::new_current_thread().enable_all().build(),
        _ => tokio::runtime::Builder::new_multi_thread().enable_all().build(),
    };
    let runtime = match runtime {
        Ok(runtime) => runtime,
        Err(error) => return complain(&anyhow::Error::new(error).context("the runtime could not be started")),
    };
    match runtime.block_on(dispatch(arguments)) {
        Ok(exit) => exit.into(),
        Err(error) => complain(&error),
    }
}

async fn dispatch(arguments: Arguments) -> anyhow::Result<Exit> {
    let config = arguments.config;
    match arguments.command {
        Command::Serve => serve::run(&config).await,
        Command::Demo(demo) => demo::run(demo).await,
        Command::Env(env) => env::run(&config, env).await,
        Command::Audit(audit) => audit::run(&config, audit).await,
        Command::Adopt(adopt) => adopt::run(&config, &adopt).await,
        Command::Sweep(sweep) => sweep::run(&config, &sweep).await,
        Command::Freeze(terms) => brake::freeze(&config, &terms).await,
        Command::Thaw => brake::lift(&config, BrakeKind::Freeze, None).await,
        Command::Pause(pause) => brake::pause(&config, &pause).await,
        Command::Resume { name } => brake::lift(&config, BrakeKind::Pause, name.as_deref()).await,
        Command::Hold(hold) => brake::hold(&config, &hold).await,
        Command::Unhold { name } => brake::lift(&config, BrakeKind::Hold, Some(&name)).await,
        Command::Config(command) => config::run(&config, command),
        Command::Doctor(doctor) => doctor::run(&config, &doctor).await,
        Command::Infra(infra) => infra::run(&config, &infra),
        Command::Completions { shell } => {
            let mut out = Vec::new();
            clap_complete::generate(shell, &mut Arguments::command(), "kagero", &mut out);
            print_bytes(&out)?;
            Ok(Exit::Ok)
        }
        Command::Agent(agent) => agent::run(&agent).await,
    }
}

fn complain(error: &anyhow::Error) -> ExitCode {
    note(&format!("error: {error:#}"));
    Exit::after(error).into()
}

/// Writes data to standard output. A reader that went away is not an error.
fn print(text: &str) -> std::io::Result<()> {
    print_bytes(text.as_bytes())?;
    print_bytes(b"\n")
}

fn print_bytes(bytes: &[u8]) -> std::io::Result<()> {
    match anstream::stdout().lock().write_all(bytes) {
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes for people to standard error.
fn note(text: &str) {
    let _ = writeln!(anstream::stderr(), "{text}");
}

/// Prints a value as JSON.
fn print_json<T: serde::Serialize>(value: &T) -> anyhow::Result<()> {
    Ok(print(&serde_json::to_string_pretty(value)?)?)
}

/// A table without lines, for people and for `cut`.
fn table(header: &[&str], rows: &[Vec<String>]) -> String {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header(header.to_vec());
    for row in rows {
        table.add_row(row.clone());
    }
    let text = table.to_string();
    // The first column begins at the margin.
    let lines: Vec<&str> = text.lines().map(|line| line.strip_prefix(' ').unwrap_or(line).trim_end()).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_has_its_row_in_the_documentation() {
        let page = include_str!("../../docs/command-line.md");
        let rows = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next()?.parse::<u8>().ok());
        let documented: Vec<u8> = rows.collect();
        assert_eq!(documented, Exit::ALL.map(Exit::code), "docs/command-line.md, section Exit codes");
        assert!(documented.windows(2).all(|pair| pair[0] < pair[1]), "each code means one thing");
    }

    #[test]
    fn an_error_ends_the_program_in_its_own_way() {
        let error = Exit::Held.because("it is held".to_owned()).context("the store could not be opened");
        assert_eq!(Exit::after(&error), Exit::Held);
        assert_eq!(format!("{error:#}"), "the store could not be opened: it is held");
        assert_eq!(Exit::after(&anyhow::anyhow!("anything")), Exit::Error);
    }
}
