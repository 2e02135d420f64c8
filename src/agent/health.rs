//! Whether a service is ready for visitors.
//!
//! Guarantees: an answer counts only if the service's own process listens on its port, or the engine publishes its
//! container there, so that no other environment's process can answer for it.
//! Must not know: what follows from the answer.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::unit::Unit;

/// How long one question may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// A proxy that finds nobody behind it hangs up within this time.
const HANGING_UP: Duration = Duration::from_millis(300);

/// What a service answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Ready.
    Healthy,
    /// Not ready, for this reason.
    NotYet(String),
}

/// Asks one service.
pub struct Probe {
    question: Question,
    listens: Listens,
}

enum Question {
    Path { client: reqwest::Client, url: String, address: SocketAddr },
    Port(SocketAddr),
    Alive(Duration),
}

/// Whether the port was found to be the service's own. Not asked each time: it costs a walk over its processes.
#[derive(PartialEq, Eq)]
enum Listens {
    Unknown,
    Proven,
}

impl Probe {
    /// A probe for what the service has: a path, a port, or its life only.
    pub fn new(path: Option<&str>, address: Option<SocketAddr>, settle: Duration) -> Self {
        let question = match (path, address) {
            (Some(path), Some(address)) => {
                let url = format!("http://{address}/{}", path.trim_start_matches('/'));
                let client = reqwest::Client::builder()
                    .no_proxy()
                    .redirect(reqwest::redirect::Policy::none())
                    .timeout(PATIENCE)
                    .build()
                    .unwrap_or_default();
                Question::Path { client, url, address }
            }
            (None, Some(address)) => Question::Port(address),
            (_, None) => Question::Alive(settle),
        };
        Self { question, listens: Listens::Unknown }
    }

    /// Has the port proven anew: something was wrong since it was.
    pub fn doubt(&mut self) {
        self.listens = Listens::Unknown;
    }

    /// Asks once. `alive` is how long the process has lived.
    pub async fn ask(&mut self, unit: &Unit, alive: Duration) -> Answer {
        let address = match &self.question {
            Question::Path { address, .. } | Question::Port(address) => *address,
            Question::Alive(settle) if alive >= *settle => return Answer::Healthy,
            Question::Alive(settle) => return Answer::NotYet(format!("it has not lived for {settle:?}")),
        };
        let port = address.port();
        let asks_port = self.listens == Listens::Unknown || matches!(self.question, Question::Port(_));
        if asks_port && !accepts(address, unit.is_behind_a_proxy()).await {
            return Answer::NotYet(format!("nothing listens on 127.0.0.1:{port}; {}", unit.advice()));
        }
        if self.listens == Listens::Unknown {
            if !unit.has_port(port).await {
                return Answer::NotYet(format!("port {port} belongs to another process"));
            }
            self.listens = Listens::Proven;
        }
        let Question::Path { client, url, .. } = &self.question else { return Answer::Healthy };
        match client.get(url).send().await {
            Ok(response) if response.status().is_success() || response.status().is_redirection() => Answer::Healthy,
            Ok(response) => Answer::NotYet(format!("its health path answered {}", response.status().as_u16())),
            Err(error) if error.is_timeout() => Answer::NotYet("its health path did not answer in time".to_owned()),
            Err(_) => Answer::NotYet("its health path did not answer in HTTP".to_owned()),
        }
    }
}

/// Whether a connection is taken and, where somebody else takes it, kept.
async fn accepts(address: SocketAddr, is_behind_a_proxy: bool) -> bool {
    let Ok(Ok(mut stream)) = timeout(PATIENCE, TcpStream::connect(address)).await else { return false };
    if !is_behind_a_proxy {
        return true;
    }
    match timeout(HANGING_UP, stream.read_u8()).await {
        // Who waits for a question, or speaks first, is there.
        Err(_) | Ok(Ok(_)) => true,
        Ok(Err(_)) => false,
    }
}
