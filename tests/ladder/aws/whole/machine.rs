//! A machine of the counterpart's EC2: namespaces of its own in which its user data is executed as root.
//!
//! Guarantees: what user data writes, mounts, filters and starts stays inside; everything ends with the value.
//! Must not know: what user data does.

use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, Command};

use super::surroundings::ip;
use crate::process::rig::{PATIENCE, kill9};
use crate::wait::look_again;

/// The other end of every machine's cable.
const ROUTER: Ipv4Addr = Ipv4Addr::new(10, 64, 255, 254);

const BOOT: &str = include_str!("boot.sh");
const SYSTEMCTL: &str = include_str!("systemctl.sh");

/// What a machine keeps while it is off.
pub struct Disk(tempfile::TempDir);

impl Disk {
    /// The disk of a machine that has never booted.
    pub fn new(user_data: &[u8]) -> Self {
        let home = tempfile::tempdir().unwrap();
        for (name, text) in
            [("boot.sh", BOOT.as_bytes()), ("systemctl", SYSTEMCTL.as_bytes()), ("user-data", user_data)]
        {
            std::fs::write(home.path().join(name), text).unwrap();
        }
        Self(home)
    }
}

pub struct Machine {
    process: Child,
    /// Where its cable is plugged in.
    port: String,
    /// Which network namespace it is, as the kernel names it.
    pub network: PathBuf,
    disk: Arc<Disk>,
}

impl Machine {
    /// Plugs it in at that address and lets it boot. Returns once it is on its way.
    pub async fn boot(address: Ipv4Addr, disk: Arc<Disk>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let home = disk.0.path();
        let console = std::fs::File::options().create(true).append(true).open(home.join("console")).unwrap();
        let mut command = Command::new("unshare");
        command.args(["--net", "--mount", "--propagation", "private", "--uts", "--ipc", "--pid", "--mount-proc"]);
        command.args(["--fork", "--kill-child", "bash"]).arg(home.join("boot.sh")).arg(home);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(console).kill_on_drop(true);
        let mut process = command.spawn().unwrap();
        let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
        let said = said.next_line().await.unwrap();
        let pid = process.id().unwrap().to_string();
        let network = std::fs::read_link(format!("/proc/{pid}/ns/net")).unwrap();
        let port = format!("machine{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let mut machine = Self { process, port, network, disk };
        assert_eq!(said.as_deref(), Some("up"), "{}", machine.console());
        let port = &machine.port;
        ip(&format!("link add {port} type veth peer name eth0 netns {pid}"));
        ip(&format!("address add {ROUTER}/32 dev {port}"));
        ip(&format!("link set {port} up"));
        ip(&format!("route replace {address}/32 dev {port}"));
        let mut input = machine.process.stdin.take().unwrap();
        input.write_all(format!("{address} {ROUTER}\n").as_bytes()).await.unwrap();
        machine
    }

    /// What was written to its console.
    pub fn console(&self) -> String {
        std::fs::read_to_string(self.disk.0.path().join("console")).unwrap_or_default()
    }

    /// Runs something in its network, as root if it does not say otherwise; whether it went well, and what it said.
    pub async fn in_its_network(&self, arguments: &[&str]) -> (bool, String) {
        let pid = self.process.id().unwrap().to_string();
        let output = Command::new("nsenter").args(["--target", &pid, "--net", "--"]).args(arguments).output().await;
        let output = output.unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8_lossy(&said).into_owned())
    }

    /// Its agents: processes in its network with such a command line.
    pub fn agents(&self) -> Vec<i32> {
        let is_agent = |pid: &i32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.starts_with(b"/usr/local/bin/kagero\0agent\0")
        };
        processes_in(&self.network).into_iter().filter(is_agent).collect()
    }

    /// Pulls the plug, and waits until all is dark.
    pub async fn end(&self) {
        kill9(self.process.id().unwrap().cast_signed());
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while !processes_in(&self.network).is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "{} does not go off", self.port);
            look_again().await;
        }
    }
}

impl Drop for Machine {
    #[allow(clippy::print_stderr, reason = "what a failed test has to show")]
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("console of {}:\n{}", self.port, self.console());
        }
    }
}

/// Processes in a network namespace.
pub fn processes_in(network: &PathBuf) -> Vec<i32> {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| std::fs::read_link(format!("/proc/{pid}/ns/net")).is_ok_and(|it| it == *network)).collect()
}
