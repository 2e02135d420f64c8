//! The agent: checks a commit out, builds it, migrates its database, runs its services, keeps their logs.
//!
//! Guarantees: it does what signed requests say and nothing else; it never connects to the controller; what
//! it runs is confined and dies with it; it holds secrets in memory only, so that after a restart it waits
//! to be told again.
//! Must not know: pull requests, GitHub, plans, the store.
//!
//! An assignment's way: [`server`] takes it, [`conductor`] lets it begin, [`attempt`] leads it through
//! [`checkout`], [`container`], [`stage`] and [`supervisor`] into a [`release`], and [`board`] tells how it stands. What
//! runs is a [`unit`]: a process in the [`sandbox`], or a container.

pub mod attempt;
pub mod board;
pub mod checkout;
pub mod client;
pub mod conductor;
pub mod container;
pub mod former;
pub mod health;
pub mod logs;
pub mod options;
mod outlet;
pub mod pins;
pub mod ports;
pub mod process;
pub mod protocol;
pub mod release;
pub mod removal;
pub mod rollout;
pub mod sandbox;
pub mod server;
pub mod signature;
pub mod stage;
pub mod supervisor;
pub mod tls;
pub mod unit;

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::Signal;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, setsid};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use self::attempt::Workshop;
use self::board::Board;
use self::checkout::Git;
use self::conductor::{Conductor, Order};
use self::container::Engines;
use self::logs::LogStore;
use self::options::{AgentOptions, OptionsError};
use self::ports::PortBook;
use self::process::{ProcessRef, carrying, dead_children, descendants};
use self::protocol::{ADDRESS_FILE, AddressFile, MACHINE_VARIABLE, write_atomically};
use self::release::RELEASES_DIR;
use self::removal::remove_tree;
use self::sandbox::{Sandbox, TooWeak};
use self::server::Desk;
use self::signature::Verifier;
use self::tls::TlsListener;

/// Orders that may wait while one is carried out.
const WAITING_ORDERS: usize = 16;
/// What is left of a killed agent is gone within this time.
const CLEARING: Duration = Duration::from_secs(10);
/// Between two looks for dead orphans.
const BETWEEN_BURIALS: Duration = Duration::from_secs(5);

/// Why an agent ended badly.
#[derive(Debug, thiserror::Error)]
pub enum AgentFailure {
    /// It has no options.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// It cannot confine what it is to run.
    #[error(transparent)]
    Sandbox(#[from] TooWeak),
    /// Another agent works in its directory.
    #[error("another agent, process {pid}, serves {dir}; end it first")]
    Taken {
        /// Its process.
        pid: i32,
        /// The directory.
        dir: String,
    },
    /// Something of the computer failed.
    #[error("the agent cannot {what}; check the directory's permissions, free space and the listen address")]
    Io {
        /// What it could not do.
        what: &'static str,
        /// The cause.
        source: io::Error,
    },
}

fn cannot(what: &'static str) -> impl FnOnce(io::Error) -> AgentFailure {
    move |source| AgentFailure::Io { what, source }
}

/// Runs the agent of a machine's directory until it is told to end, in a session of its own, so that it
/// outlives whoever started it.
pub async fn run_from_dir(dir: &Path) -> Result<(), AgentFailure> {
    // Fails for the leader of a process group: then the starter has seen to it.
    let _ = setsid();
    run(AgentOptions::load(dir)?).await
}

/// Runs an agent until it gets SIGTERM or SIGINT; then everything that it runs is stopped.
pub async fn run(options: AgentOptions) -> Result<(), AgentFailure> {
    let mut told_to_end = (
        signal(SignalKind::terminate()).map_err(cannot("watch for signals"))?,
        signal(SignalKind::interrupt()).map_err(cannot("watch for signals"))?,
    );
    let _alone = take_directory(&options)?;
    clear(&options.dir).await.map_err(cannot("clear up after the agent before it"))?;
    // What leaves its parents must still be found below the agent.
    nix::sys::prctl::set_child_subreaper(true).map_err(|errno| cannot("adopt orphans")(errno.into()))?;
    let (sandbox, report) = Sandbox::prepare(&options.sandbox, &options.dir).await?;
    for failure in &report.failures {
        tracing::warn!(env.uid = %options.uid, sandbox.level = ?report.level, "a stronger sandbox does not work: {failure}");
    }
    let logs = LogStore::open(options.dir.join("logs"), options.logs).map_err(cannot("keep logs"))?;
    let engines = Engines::new(&options);
    if let Err(error) = engines.clear().await {
        tracing::warn!(env.uid = %options.uid, %error, "what the agent before has left in containers cannot be removed yet; \
            it is tried again before anything runs in one");
    }
    let git = Git::new(&options.mirrors_dir, &options.dir, options.git.clone()).map_err(cannot("keep mirrors"))?;
    let outside = outside(&options).map_err(cannot("find its own address"))?;
    let ports = PortBook::open(options.ports_dir.clone(), outside).map_err(cannot("open the book of ports"))?;
    let board = Arc::new(Board::new(options.clone(), sandbox.level(), outside));
    let (orders, inbox) = mpsc::channel(WAITING_ORDERS);
    let desk = Desk {
        options: Arc::new(options.clone()),
        verifier: Arc::new(Verifier::new(options.public_key, options.uid.clone())),
        board: Arc::clone(&board),
        orders: orders.clone(),
        logs: logs.clone(),
    };
    let listener = TcpListener::bind(options.listen).await.map_err(cannot("listen"))?;
    announce(&options, &listener).map_err(cannot("write its address"))?;
    let (router, loopback) = (server::router(desk), options.listen.ip().is_loopback());
    let serving = if loopback {
        tokio::spawn(async move { axum::serve(listener, router).await })
    } else {
        // What crosses a network is encrypted: assignments hold an environment's secrets.
        let listener = TlsListener::begin(listener, &options.dir).map_err(cannot("take encrypted connections"))?;
        tokio::spawn(async move { axum::serve(listener, router).await })
    };
    let workshop = Arc::new(Workshop { options, sandbox, git, ports, engines, logs, board });
    let conducting = tokio::spawn(Conductor::new(workshop).conduct(inbox));
    let burying = tokio::spawn(bury());
    tokio::select! {
        _ = told_to_end.0.recv() => {}
        _ = told_to_end.1.recv() => {}
    }
    // If the conductor is gone already, everything it ran is gone with it.
    let _ = orders.send(Order::End).await;
    let _ = conducting.await;
    burying.abort();
    serving.abort();
    for left in descendants(std::process::id().try_into().unwrap_or(i32::MAX)) {
        left.signal(Signal::SIGKILL);
    }
    Ok(())
}

/// The address that others reach this machine at, if they are to.
fn outside(options: &AgentOptions) -> io::Result<Option<IpAddr>> {
    if options.listen.ip().is_loopback() {
        return Ok(None);
    }
    if !options.listen.ip().is_unspecified() {
        return Ok(Some(options.listen.ip()));
    }
    // Nothing is sent: the kernel only says which address it would be sent from.
    let asked = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    asked.connect((Ipv4Addr::new(192, 0, 2, 1), 9))?;
    Ok(Some(asked.local_addr()?.ip()))
}

/// Makes sure that this is the directory's only agent.
fn take_directory(options: &AgentOptions) -> Result<fs::File, AgentFailure> {
    let what = "take its directory";
    fs::create_dir_all(options.dir.join(RELEASES_DIR)).map_err(cannot(what))?;
    for dir in [options.dir.clone(), options.dir.join(RELEASES_DIR)] {
        // Passed through, not listed: weaker sandboxes go by the computer's own paths.
        fs::set_permissions(dir, fs::Permissions::from_mode(0o711)).map_err(cannot(what))?;
    }
    let file = fs::File::create(options.dir.join("agent.lock")).map_err(cannot(what))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => {
            let pid = AddressFile::read(&options.dir).map_or(0, |address| address.process.pid);
            Err(AgentFailure::Taken { pid, dir: options.dir.display().to_string() })
        }
        Err(fs::TryLockError::Error(error)) => Err(cannot(what)(error)),
    }
}

/// Kills and removes what an agent that was killed has left.
async fn clear(dir: &Path) -> io::Result<()> {
    let variable = format!("{MACHINE_VARIABLE}={}", dir.display());
    let me = ProcessRef::current()?;
    let deadline = tokio::time::Instant::now() + CLEARING;
    loop {
        let left: Vec<ProcessRef> = carrying(&variable).into_iter().filter(|process| *process != me).collect();
        if left.is_empty() || tokio::time::Instant::now() > deadline {
            break;
        }
        for process in left {
            process.signal(Signal::SIGKILL);
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for entry in fs::read_dir(dir.join(RELEASES_DIR))? {
        remove_tree(&entry?.path())?;
    }
    Ok(())
}

/// Tells where the agent listens.
fn announce(options: &AgentOptions, listener: &TcpListener) -> io::Result<()> {
    let address = AddressFile {
        process: ProcessRef::current()?,
        address: listener.local_addr()?,
        uid: options.uid.clone(),
        generation: options.generation,
    };
    write_atomically(&options.dir.join(ADDRESS_FILE), &serde_json::to_vec(&address)?)
}

/// Buries dead orphans that were handed to the agent. Its own children are tokio's, which does not leave
/// them lying: what is dead at two looks is an orphan.
async fn bury() {
    let me = std::process::id().try_into().unwrap_or(i32::MAX);
    let mut before = HashSet::new();
    loop {
        let dead: HashSet<ProcessRef> = dead_children(me).into_iter().collect();
        for orphan in dead.intersection(&before) {
            // Whoever else has buried it was right too.
            let _ = waitpid(Pid::from_raw(orphan.pid), Some(WaitPidFlag::WNOHANG));
        }
        before = dead;
        tokio::time::sleep(BETWEEN_BURIALS).await;
    }
}

/// A span of time for people.
fn span(time: Duration) -> String {
    match time.as_secs() {
        0 => format!("{} ms", time.as_millis()),
        seconds @ 1..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}
