//! Reading a log on from where a reader is.
//!
//! Guarantees: a follower gets every line once and those of one source in order, whatever the clock says and
//! however far the follower lags behind, as long as the line is kept.
//! Must not know: who reads.

use std::collections::HashMap;
use std::sync::Arc;

use futures::Stream;
use tokio::sync::broadcast::error::RecvError;

use super::LogStore;
use crate::agent::protocol::{Follow, LogKind, LogLine, LogQuery};

/// The number of the last line that a reader has of each log.
struct Place {
    /// Of older attempts, the reader wants only what is written from now on.
    newest: u32,
    last: HashMap<(u32, LogKind, String), u64>,
}

impl Place {
    /// Whether the reader has not had the line, who has it from now on.
    fn takes(&mut self, line: &LogLine) -> bool {
        let last = self.last.entry((line.attempt, line.kind, line.source.clone())).or_default();
        let is_new = line.number > *last;
        *last = line.number.max(*last);
        is_new
    }

    /// The same for a line that was kept and may be from before the reader came.
    fn takes_kept(&mut self, line: &LogLine) -> bool {
        let is_followed =
            line.attempt >= self.newest || self.last.contains_key(&(line.attempt, line.kind, line.source.clone()));
        is_followed && self.takes(line)
    }
}

impl LogStore {
    /// The lines of a log: what is kept and, if it is followed, whatever comes.
    pub fn lines(&self, query: LogQuery) -> impl Stream<Item = LogLine> + Send + use<> {
        let store = self.clone();
        // Subscribed before anything is read: a line may come twice, but none is missed.
        let mut live = store.live.subscribe();
        async_stream::stream! {
            if query.follow == Follow::No {
                for line in store.kept(&query).await {
                    yield line;
                }
                return;
            }
            let newest = store.attempts().first().map_or(0, |(record, _)| record.number);
            let mut place = Place { newest, last: HashMap::new() };
            loop {
                for line in store.kept(&query).await {
                    if place.takes_kept(&line) {
                        yield line;
                    }
                }
                loop {
                    match live.recv().await {
                        Ok(line) if query.wants(&line) && place.takes(&line) => yield LogLine::clone(&line),
                        Ok(_) => {}
                        // What the reader was too slow for is kept.
                        Err(RecvError::Lagged(_)) => break,
                        Err(RecvError::Closed) => return,
                    }
                }
            }
        }
    }

    async fn kept(&self, query: &LogQuery) -> Vec<LogLine> {
        let (store, query) = (self.clone(), query.clone());
        let attempts = self.limits.attempts;
        tokio::task::spawn_blocking(move || store.read(&query, attempts)).await.unwrap_or_default()
    }
}

impl LogQuery {
    fn wants(&self, line: &Arc<LogLine>) -> bool {
        self.kind.is_none_or(|kind| kind == line.kind)
            && self.service.as_ref().is_none_or(|service| service.as_str() == line.source)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::StreamExt as _;

    use super::*;
    use crate::agent::logs::{AttemptLogs, LIVE_LINES, Masks, Source};
    use crate::agent::options::LogLimits;
    use crate::domain::assignment::{Stage, TaskDigest};
    use crate::domain::id::{CommitSha, ServiceName};

    fn begin(store: &LogStore) -> AttemptLogs {
        let commit = CommitSha::parse("a".repeat(40)).unwrap();
        store.begin(TaskDigest("t".to_owned()), commit, Masks::default()).unwrap()
    }

    fn web() -> ServiceName {
        ServiceName::parse("web").unwrap()
    }

    async fn next(lines: &mut (impl Stream<Item = LogLine> + Unpin)) -> String {
        let line = tokio::time::timeout(Duration::from_secs(30), lines.next()).await.expect("no line").unwrap();
        format!("{} {} {}", line.attempt, line.source, line.text)
    }

    #[tokio::test]
    async fn a_follower_gets_every_line_once_over_a_rollout() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path().to_owned(), LogLimits::default()).unwrap();
        let first = begin(&store);
        let old = first.log(Source::Service(&web()));
        old.note("before anybody reads");
        let second = begin(&store);
        let build = second.log(Source::Stage(Stage::Build));
        build.note("kept");
        let query = LogQuery { kind: None, service: None, follow: Follow::Yes };
        let mut lines = Box::pin(store.lines(query));
        assert_eq!(next(&mut lines).await, "2 build kept");
        // Many within one millisecond, and far more than a slow reader may lag behind.
        let many = LIVE_LINES * 2;
        for number in 0..many {
            build.note(&format!("line {number}"));
            old.note(&format!("served {number}"));
        }
        let mut got = Vec::new();
        for _ in 0..many {
            got.push(next(&mut lines).await);
        }
        let expected: Vec<String> = (0..many).map(|number| format!("2 build line {number}")).collect();
        let (builds, served): (Vec<String>, Vec<String>) =
            got.into_iter().partition(|line| line.starts_with("2 build"));
        assert_eq!(builds, expected[..builds.len()]);
        let rest = builds.len();
        assert!(served.iter().all(|line| line.starts_with("1 web served")), "{served:?}");
        let mut later = Vec::new();
        while later.len() < many - rest {
            let line = next(&mut lines).await;
            if line.starts_with("2 build") {
                later.push(line);
            }
        }
        assert_eq!(later, expected[rest..]);

        let third = begin(&store);
        third.log(Source::Stage(Stage::Checkout)).note("a rollout");
        third.log(Source::Service(&web())).note("up");
        let mut last = String::new();
        while !last.starts_with('3') {
            last = next(&mut lines).await;
        }
        assert_eq!((last.as_str(), next(&mut lines).await.as_str()), ("3 checkout a rollout", "3 web up"));
    }

    #[tokio::test]
    async fn a_log_that_is_not_followed_ends() {
        let dir = tempfile::tempdir().unwrap();
        let store = LogStore::open(dir.path().to_owned(), LogLimits { bytes: 400, ..LogLimits::default() }).unwrap();
        let log = begin(&store).log(Source::Service(&web()));
        for number in 1..=40 {
            log.note(&format!("line {number}"));
        }
        let query = LogQuery { kind: Some(LogKind::Application), service: Some(web()), follow: Follow::No };
        let lines: Vec<LogLine> = store.lines(query).collect().await;
        assert!(lines.len() < 40 && lines.is_sorted_by_key(|line| line.number));
        assert!(lines.iter().any(|line| line.text.contains("left out")));
        for line in lines.iter().filter(|line| !line.text.contains("left out")) {
            assert_eq!(line.text, format!("line {}", line.number));
        }
        assert_eq!(lines.last().unwrap().number, 40);
    }
}
