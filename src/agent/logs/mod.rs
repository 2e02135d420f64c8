//! Logs of attempts: one folder per attempt, one bounded log per stage and per service.
//!
//! Guarantees: bounded on disk, in lines and in attempts; nothing that blocks the writer; what is kept is
//! already free of control characters and of the attempt's secrets.
//! Must not know: how commands are run, who reads.

mod file;
mod follow;
mod text;

use std::collections::VecDeque;
use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt as _};
use tokio::sync::broadcast;

use self::file::BoundedFile;
pub use self::text::Masks;
use self::text::{Splitter, plain};
use super::options::LogLimits;
use super::protocol::{LogKind, LogLine, LogQuery, write_atomically};
use crate::clock::{Clock as _, SystemClock};
use crate::domain::assignment::{Stage, TaskDigest};
use crate::domain::id::{CommitSha, ServiceName};
use crate::domain::time::Timestamp;

/// Lines that a slow follower may lag behind before it misses some.
const LIVE_LINES: usize = 4096;
const ATTEMPT_FILE: &str = "attempt.json";

/// All logs of one agent.
#[derive(Clone)]
pub struct LogStore {
    dir: PathBuf,
    limits: LogLimits,
    live: broadcast::Sender<Arc<LogLine>>,
}

#[derive(Clone, Serialize, Deserialize)]
struct AttemptRecord {
    number: u32,
    commit: CommitSha,
    task: TaskDigest,
    began_at: Timestamp,
}

/// The logs of one attempt.
#[derive(Clone)]
pub struct AttemptLogs {
    dir: PathBuf,
    record: AttemptRecord,
    limits: LogLimits,
    masks: Masks,
    live: broadcast::Sender<Arc<LogLine>>,
}

/// What writes a log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source<'a> {
    /// A stage.
    Stage(Stage),
    /// A service.
    Service(&'a ServiceName),
}

impl Source<'_> {
    fn kind(self) -> LogKind {
        match self {
            Self::Stage(_) => LogKind::Build,
            Self::Service(_) => LogKind::Application,
        }
    }

    fn name(self) -> String {
        match self {
            Self::Stage(stage) => stage.as_str().to_owned(),
            Self::Service(name) => name.to_string(),
        }
    }
}

impl LogStore {
    /// The logs below a directory.
    pub fn open(dir: PathBuf, limits: LogLimits) -> io::Result<Self> {
        // For the agent alone: in a weak sandbox nothing else keeps others out.
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
        Ok(Self { dir, limits, live: broadcast::channel(LIVE_LINES).0 })
    }

    /// Begins an attempt, and forgets the oldest ones.
    pub fn begin(&self, task: TaskDigest, commit: CommitSha, masks: Masks) -> io::Result<AttemptLogs> {
        let attempts = self.attempts();
        let number = attempts.first().map_or(1, |(record, _)| record.number + 1);
        for (_, old) in attempts.iter().skip(self.limits.attempts.saturating_sub(1)) {
            // Old logs that cannot be removed now are tried again with the next attempt.
            let _ = fs::remove_dir_all(old);
        }
        let dir = self.dir.join(format!("{number:06}"));
        fs::create_dir_all(&dir)?;
        let record = AttemptRecord { number, commit, task, began_at: SystemClock.now() };
        write_atomically(&dir.join(ATTEMPT_FILE), &serde_json::to_vec(&record)?)?;
        Ok(AttemptLogs { dir, record, limits: self.limits, masks, live: self.live.clone() })
    }

    /// What is kept, newest attempt first, each in the order of its stages or services.
    pub fn read(&self, query: &LogQuery, attempts: usize) -> Vec<LogLine> {
        self.attempts().iter().take(attempts).flat_map(|(record, dir)| read_attempt(record, dir, query)).collect()
    }

    fn attempts(&self) -> Vec<(AttemptRecord, PathBuf)> {
        let entries = fs::read_dir(&self.dir).into_iter().flatten().filter_map(Result::ok);
        let mut found: Vec<_> = entries
            .filter_map(|entry| {
                let record = fs::read(entry.path().join(ATTEMPT_FILE)).ok()?;
                Some((serde_json::from_slice::<AttemptRecord>(&record).ok()?, entry.path()))
            })
            .collect();
        found.sort_by_key(|(record, _)| std::cmp::Reverse(record.number));
        found
    }
}

fn read_attempt(record: &AttemptRecord, dir: &Path, query: &LogQuery) -> Vec<LogLine> {
    let mut sources: Vec<(LogKind, String)> = Vec::new();
    if query.kind != Some(LogKind::Application) && query.service.is_none() {
        let stages = [Stage::Checkout, Stage::Build, Stage::Migrate];
        sources.extend(stages.map(|stage| (LogKind::Build, stage.as_str().to_owned())));
    }
    if query.kind != Some(LogKind::Build) {
        let services = query.service.as_ref().map_or_else(|| services(dir), |service| vec![service.to_string()]);
        sources.extend(services.into_iter().map(|service| (LogKind::Application, service)));
    }
    let mut lines = Vec::new();
    for (kind, source) in sources {
        let Ok(kept) = file::read(&log_path(dir, kind, &source)) else { continue };
        let line = |text: &str| {
            let mut parts = text.splitn(3, ' ');
            let mut number = || parts.next().and_then(|part| part.parse().ok()).unwrap_or_default();
            let (at, number) = (Timestamp(i64::try_from(number()).unwrap_or_default()), number());
            LogLine {
                attempt: record.number,
                commit: record.commit.clone(),
                kind,
                source: source.clone(),
                number,
                at,
                text: parts.next().unwrap_or_default().to_owned(),
            }
        };
        lines.extend(kept.head.lines().map(line));
        let mut tail = kept.tail.lines().map(line).peekable();
        if let Some(first) = tail.peek() {
            let text = "[some lines were left out here: the log has outgrown its bound]".to_owned();
            // Stands for the last of them.
            lines.push(LogLine { number: first.number.saturating_sub(1), text, ..first.clone() });
        }
        lines.extend(tail);
    }
    lines
}

fn log_path(dir: &Path, kind: LogKind, source: &str) -> PathBuf {
    dir.join(match kind {
        LogKind::Build => format!("stage-{source}.log"),
        LogKind::Application => format!("service-{source}.log"),
    })
}

fn services(dir: &Path) -> Vec<String> {
    let names = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut found: Vec<String> =
        names.filter_map(|name| Some(name.strip_prefix("service-")?.strip_suffix(".log")?.to_owned())).collect();
    found.sort();
    found
}

impl AttemptLogs {
    /// Begins the log of a stage or service.
    pub fn log(&self, source: Source<'_>) -> Log {
        let path = log_path(&self.dir, source.kind(), &source.name());
        Log {
            inner: Arc::new(Mutex::new(Inner {
                file: BoundedFile::create(&path, self.limits.bytes),
                tail: VecDeque::new(),
                tail_lines: self.limits.tail_lines,
                lines: 0,
            })),
            kind: source.kind(),
            source: source.name(),
            attempt: self.record.number,
            commit: self.record.commit.clone(),
            masks: self.masks.clone(),
            live: self.live.clone(),
        }
    }
}

/// A log that is being written. Clones write to the same one.
#[derive(Clone)]
pub struct Log {
    inner: Arc<Mutex<Inner>>,
    kind: LogKind,
    source: String,
    attempt: u32,
    commit: CommitSha,
    masks: Masks,
    live: broadcast::Sender<Arc<LogLine>>,
}

struct Inner {
    file: BoundedFile,
    tail: VecDeque<String>,
    tail_lines: usize,
    lines: u64,
}

impl Log {
    /// Adds a line of our own.
    pub fn note(&self, text: &str) {
        self.line(text.as_bytes());
    }

    /// Adds everything that a stream gives until it ends.
    pub async fn drain(&self, stream: Option<impl AsyncRead + Unpin>) {
        let Some(mut stream) = stream else { return };
        let mut splitter = Splitter::default();
        let mut buffer = vec![0; 16 << 10];
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) | Err(_) => break,
                Ok(count) => splitter.push(&buffer[..count], |line| self.line(line)),
            }
        }
        splitter.finish(|line| self.line(line));
    }

    /// The last lines.
    pub fn tail(&self) -> Vec<String> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).tail.iter().cloned().collect()
    }

    fn line(&self, line: &[u8]) {
        let text = self.masks.apply(plain(line));
        let at = SystemClock.now();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.lines += 1;
        let number = inner.lines;
        inner.file.write(&format!("{} {number} {text}\n", at.0));
        if inner.tail.len() >= inner.tail_lines {
            inner.tail.pop_front();
        }
        if inner.tail_lines > 0 {
            inner.tail.push_back(text.clone());
        }
        if self.live.receiver_count() > 0 {
            let (commit, source) = (self.commit.clone(), self.source.clone());
            let line = LogLine { attempt: self.attempt, commit, kind: self.kind, source, number, at, text };
            // Under the lock, so that followers get the lines of a source in order. Nobody may follow any more.
            let _ = self.live.send(Arc::new(line));
        }
        drop(inner);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agent::protocol::Follow;

    #[tokio::test]
    async fn newest_attempt_comes_first_and_old_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let limits = LogLimits { attempts: 2, ..LogLimits::default() };
        let store = LogStore::open(dir.path().to_owned(), limits).unwrap();
        let commit = CommitSha::parse("a".repeat(40)).unwrap();
        for number in 1..=3 {
            let logs = store.begin(TaskDigest("t".to_owned()), commit.clone(), Masks::new(["sesame-open"])).unwrap();
            let log = logs.log(Source::Stage(Stage::Build));
            log.drain(Some(format!("\x1b[1mattempt {number}\x1b[0m says sesame-open").as_bytes())).await;
            assert_eq!(log.tail(), [format!("attempt {number} says ***")]);
            logs.log(Source::Service(&ServiceName::parse("web").unwrap())).note("application");
        }
        let query = LogQuery { kind: Some(LogKind::Build), service: None, follow: Follow::No };
        let texts: Vec<String> = store.read(&query, 9).into_iter().map(|line| line.text).collect();
        assert_eq!(texts, ["attempt 3 says ***", "attempt 2 says ***"]);
        let query = LogQuery { kind: Some(LogKind::Application), ..query };
        let lines = store.read(&query, 1);
        assert_eq!((lines.len(), lines[0].source.as_str(), lines[0].attempt), (1, "web", 3));
    }
}
