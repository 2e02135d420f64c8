//! A Podman of a test's own: its service, its storage and its networks in a temporary directory, with images made of
//! Debian's static busybox, and a registry on loopback where a test needs one.
//!
//! Guarantees: one at a time on this computer, whoever runs the tests, since interfaces and firewall rules are the
//! computer's; dropping it leaves no container, network or process. Without Podman a test fails.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::wait::eventually;

const PATIENCE: Duration = Duration::from_mins(1);
const MISSING: &str = "Podman, runc, netavark, busybox-static and docker-registry are needed: make setup";
const BUSYBOX: &str = "/bin/busybox";
const APPLETS: [&str; 22] = [
    "sh", "httpd", "nc", "wget", "sleep", "cat", "echo", "env", "ls", "id", "ip", "nslookup", "awk", "tail", "touch",
    "test", "grep", "mkdir", "kill", "true", "false", "ps",
];
/// Limits that a machine with low ones of its own grants.
const CONTAINERS: &str = r#"
[containers]
default_ulimits = ["nofile=20000:20000", "nproc=10000:10000"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"#;

pub struct Podman {
    dir: TempDir,
    service: Option<Child>,
    registry: Option<(Child, u16)>,
    _alone: File,
}

impl Podman {
    /// Starts the service, and makes the image `localhost/base:1`: a shell and a web server for `/www`.
    pub async fn start() -> Self {
        let alone = File::create(std::env::temp_dir().join("kagero-tests-podman.lock")).unwrap();
        let alone = tokio::task::spawn_blocking(move || {
            alone.lock().unwrap();
            alone
        });
        let alone = alone.await.unwrap();
        let dir = tempfile::Builder::new().prefix("kpod").tempdir().unwrap();
        let at = |name: &str| dir.path().join(name).display().to_string();
        let networks =
            format!("[network]\nnetwork_backend = \"netavark\"\nnetwork_config_dir = \"{}\"\n", at("networks"));
        fs::write(at("containers.conf"), format!("{CONTAINERS}{networks}")).unwrap();
        let storage =
            format!("[storage]\ndriver = \"vfs\"\ngraphroot = \"{}\"\nrunroot = \"{}\"\n", at("graph"), at("run"));
        fs::write(at("storage.conf"), storage).unwrap();
        let port = free_port();
        let registries = format!("[[registry]]\nlocation = \"127.0.0.1:{port}\"\ninsecure = true\n");
        fs::write(at("registries.conf"), registries).unwrap();
        let mut podman = Self { dir, service: None, registry: None, _alone: alone };
        let log = File::create(podman.dir.path().join("service.log")).unwrap();
        let mut command = podman.command();
        command.args(["system", "service", "--time=0"]).arg(podman.engine());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        podman.service = Some(command.spawn().expect(MISSING));
        eventually("Podman's socket", PATIENCE, async || podman.socket().exists()).await;
        podman.base();
        podman.registry = Some(podman.start_registry(port).await);
        podman
    }

    /// Its address for the agent.
    pub fn engine(&self) -> String {
        format!("unix://{}", self.socket().display())
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("podman.sock")
    }

    fn command(&self) -> Command {
        let mut command = Command::new("podman");
        command.arg("--tmpdir").arg(self.dir.path().join("tmp"));
        for (variable, file) in [
            ("CONTAINERS_CONF", "containers.conf"),
            ("CONTAINERS_STORAGE_CONF", "storage.conf"),
            ("CONTAINERS_REGISTRIES_CONF", "registries.conf"),
        ] {
            command.env(variable, self.dir.path().join(file));
        }
        command.stdin(Stdio::null());
        command
    }

    /// Whether a command of `podman` ends well, and what it says.
    pub fn try_run(&self, arguments: &[&str]) -> Result<String, String> {
        let output = self.command().args(arguments).output().expect(MISSING);
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if output.status.success() { Ok(text) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned()) }
    }

    pub fn run(&self, arguments: &[&str]) -> String {
        self.try_run(arguments).unwrap_or_else(|error| panic!("podman {arguments:?}: {error}"))
    }

    /// Every container, whether it runs or not, by name.
    pub fn containers(&self) -> Vec<String> {
        self.list(&["ps", "--all", "--format", "{{.Names}}"])
    }

    pub fn networks(&self) -> Vec<String> {
        let mut all = self.list(&["network", "ls", "--format", "{{.Name}}"]);
        all.retain(|name| name != "podman");
        all
    }

    /// Every image with a name.
    pub fn images(&self) -> Vec<String> {
        let mut all = self.list(&["images", "--format", "{{.Repository}}:{{.Tag}}"]);
        all.retain(|name| !name.contains("<none>"));
        all
    }

    fn list(&self, arguments: &[&str]) -> Vec<String> {
        self.run(arguments).lines().map(str::to_owned).collect()
    }

    /// Runs a shell command in a container.
    pub fn inside(&self, container: &str, command: &str) -> Result<String, String> {
        self.try_run(&["exec", container, "sh", "-c", command])
    }

    fn base(&self) {
        let root = self.dir.path().join("root");
        for folder in ["bin", "www", "tmp"] {
            fs::create_dir_all(root.join(folder)).unwrap();
        }
        fs::copy(BUSYBOX, root.join("bin/busybox")).expect(MISSING);
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", root.join("bin").join(applet)).unwrap();
        }
        fs::write(root.join("www/index.html"), "base").unwrap();
        let archive = self.dir.path().join("root.tar");
        let packed = Command::new("tar").arg("-C").arg(&root).arg("-cf").arg(&archive).arg(".").status().unwrap();
        assert!(packed.success());
        let command = "CMD [\"sh\", \"-c\", \"echo serving on $PORT; exec httpd -f -p $PORT -h /www\"]";
        let archive = archive.display().to_string();
        self.run(&["import", "--change", "ENV PATH=/bin", "--change", command, &archive, "localhost/base:1"]);
    }

    async fn start_registry(&self, port: u16) -> (Child, u16) {
        let config = self.dir.path().join("registry.yml");
        let root = self.dir.path().join("registry");
        let text = format!(
            "version: 0.1\nstorage: {{filesystem: {{rootdirectory: \"{}\"}}}}\nhttp: {{addr: \"127.0.0.1:{port}\"}}\nlog: \
             {{level: warn}}\n",
            root.display()
        );
        fs::write(&config, text).unwrap();
        let log = File::create(self.dir.path().join("registry.log")).unwrap();
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(&config).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let child = command.spawn().expect(MISSING);
        eventually("the registry", PATIENCE, async || {
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        })
        .await;
        (child, port)
    }

    /// The registry's part of an image's name.
    pub fn registry(&self) -> String {
        format!("127.0.0.1:{}", self.registry.as_ref().unwrap().1)
    }

    /// Puts an image into the registry that answers with this text, and forgets it here. Gives its digest.
    pub fn publish(&self, name: &str, text: &str) -> String {
        let folder = tempfile::tempdir_in(self.dir.path()).unwrap();
        let dockerfile = format!("FROM localhost/base:1\nRUN echo -n '{text}' > /www/index.html\nEXPOSE 8080\n");
        fs::write(folder.path().join("Dockerfile"), dockerfile).unwrap();
        let full = format!("{}/{name}", self.registry());
        let digest_file = folder.path().join("digest");
        self.run(&["build", "--quiet", "--tag", &full, &folder.path().display().to_string()]);
        self.run(&["push", "--digestfile", &digest_file.display().to_string(), &full]);
        self.run(&["rmi", &full]);
        fs::read_to_string(digest_file).unwrap().trim().to_owned()
    }
}

impl Drop for Podman {
    fn drop(&mut self) {
        let _ = self.try_run(&["rm", "--all", "--force", "--time", "0"]);
        for network in self.try_run(&["network", "ls", "--format", "{{.Name}}"]).unwrap_or_default().lines() {
            if network != "podman" {
                let _ = self.try_run(&["network", "rm", "--force", network]);
            }
        }
        for child in self.service.iter_mut().chain(self.registry.iter_mut().map(|(child, _)| child)) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
