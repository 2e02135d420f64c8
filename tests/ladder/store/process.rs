//! Whole processes: killed in the middle of commits, and two of them on one file.
//!
//! The child is this test program itself, told by an environment variable to be one.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use bytes::Bytes;
use kagero::store::{Delivery, Store, StoreError};

use super::{NOW, key, lease, url};

/// Directory of the store that a child works on.
const CHILD: &str = "KAGERO_TEST_STORE_CHILD";

/// Ended with the test, whatever its outcome.
pub(super) struct Process(pub(super) Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(super) fn spawn(test: &str, directory: &Path) -> (Process, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(CHILD, directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    (Process(child), output)
}

pub(super) fn child_directory() -> Option<PathBuf> {
    std::env::var_os(CHILD).map(PathBuf::from)
}

/// What follows `ack ` on the child's next such line; `None` at its end.
pub(super) fn next_ack(output: &mut BufReader<ChildStdout>) -> Option<String> {
    let mut line = Vec::new();
    loop {
        line.clear();
        if output.read_until(b'\n', &mut line).unwrap() == 0 {
            return None;
        }
        // A line that the kill cut short was not an acknowledgement. The first one stands behind the test
        // program's own words.
        let line = String::from_utf8_lossy(&line);
        if let Some((_, guid)) = line.strip_suffix('\n').and_then(|line| line.split_once("ack ")) {
            return Some(guid.to_owned());
        }
    }
}

pub(super) fn say(guid: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(format!("ack {guid}\n").as_bytes()).unwrap();
    output.flush().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_survives_a_kill() {
    if let Some(directory) = child_directory() {
        let store = Store::open(&url(&directory)).await.unwrap();
        let tasks: Vec<_> = (0..32)
            .map(|task| {
                let store = store.clone();
                tokio::spawn(async move {
                    for number in 0_u64.. {
                        let guid = format!("{}-{task}-{number}", std::process::id());
                        let body = Bytes::from(guid.repeat(500));
                        let event = "push".to_owned();
                        let delivery = Delivery { guid: guid.clone(), event, body, received_at: NOW };
                        store.inbox().accept(delivery).await.unwrap();
                        say(&guid);
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        return;
    }

    let directory = tempfile::tempdir().unwrap();
    let mut acknowledged = Vec::new();
    for round in 1..=3 {
        let test = "store::process::what_was_acknowledged_survives_a_kill";
        let (mut child, mut output) = spawn(test, directory.path());
        for _ in 0..round * 150 {
            acknowledged.push(next_ack(&mut output).expect("the child ended by itself"));
        }
        child.0.kill().unwrap();
        while let Some(guid) = next_ack(&mut output) {
            acknowledged.push(guid);
        }
        child.0.wait().unwrap();

        let store = Store::open(&url(directory.path())).await.unwrap();
        let kept = store.inbox().pending(1_000_000).await.unwrap();
        let guids: std::collections::HashSet<_> = kept.iter().map(|row| row.guid.as_str()).collect();
        let lost: Vec<_> = acknowledged.iter().filter(|guid| !guids.contains(guid.as_str())).collect();
        assert!(lost.is_empty(), "acknowledged and lost in round {round}: {lost:?}");
        assert!(kept.iter().all(|row| row.body == row.guid.repeat(500)));
        store.close().await;
    }
}

#[tokio::test]
async fn a_second_process_is_refused_by_name_and_a_dead_one_is_forgotten() {
    if let Some(directory) = child_directory() {
        let store = Store::open(&url(&directory)).await.unwrap();
        lease(&store, key(1)).await;
        say("open");
        // Until the parent kills us.
        std::future::pending::<()>().await;
    }

    let directory = tempfile::tempdir().unwrap();
    let test = "store::process::a_second_process_is_refused_by_name_and_a_dead_one_is_forgotten";
    let (mut child, mut output) = spawn(test, directory.path());
    assert_eq!(next_ack(&mut output).as_deref(), Some("open"));
    let Err(error) = Store::open(&url(directory.path())).await else { panic!("two controllers on one file") };
    let holder = format!("process {}", child.0.id());
    assert!(matches!(&error, StoreError::Locked { holder: named, .. } if *named == holder), "{error:?}");
    assert!(error.to_string().contains(&holder) && error.to_string().contains("kagero.db"), "{error}");
    child.0.kill().unwrap();
    child.0.wait().unwrap();

    let store = Store::open(&url(directory.path())).await.unwrap();
    // The dead process had the lease for another minute; nobody can hold it any more.
    let taken = lease(&store, key(1)).await;
    assert_eq!(taken.fence, 2);

    let Err(error) = Store::open(&url(directory.path())).await else { panic!("opened twice in one process") };
    assert!(matches!(error, StoreError::Locked { .. }), "{error:?}");
    store.close().await;
    Store::open(&url(directory.path())).await.unwrap();
}

#[tokio::test]
async fn addresses_that_cannot_be_used_say_why() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    std::fs::write(&file, "not a database\n".repeat(1_000)).unwrap();
    let under_a_file = format!("sqlite:{}", file.join("kagero.db").display());
    for (given, expected) in [
        ("mysql://root:geheim@host/x", "scheme"),
        ("sqlite::memory:", "memory"),
        ("sqlite:", "file"),
        (under_a_file.as_str(), "directory"),
    ] {
        let Err(error) = Store::open(given).await else { panic!("{given} was opened") };
        assert!(matches!(error, StoreError::Address { .. }), "{given}: {error:?}");
        assert!(error.to_string().contains(expected), "{given}: {error}");
        assert!(!format!("{error} {error:?}").contains("geheim"), "a password in an error");
    }
    // Not a database at all.
    let Err(error) = Store::open(&format!("sqlite:{}", file.display())).await else { panic!("opened a text file") };
    assert!(!error.is_transient(), "{error:?}");
}
