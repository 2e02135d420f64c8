//! Bare git repositories on disk, driven through the git binary: what an agent clones from.
//!
//! Guarantees: every commit, branch and `refs/pull/<n>/head` is a real one; no text of a pull request
//! reaches a shell or is taken for an option; the machine's git configuration is not read.
//! Must not know: pull requests, HTTP.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::StandinError;
use super::change::FileChange;

/// One bare repository.
#[derive(Debug, Clone)]
pub(super) struct BareRepo {
    path: PathBuf,
}

/// A commit to be made.
#[derive(Debug)]
pub(super) struct NewCommit<'a> {
    /// The full name of the reference that is moved to it.
    pub reference: &'a str,
    /// Its only parent; `None`: a root commit.
    pub parent: Option<&'a str>,
    pub message: &'a str,
    /// Login of the author.
    pub author: &'a str,
    /// Seconds since the epoch.
    pub at: i64,
    pub changes: &'a [FileChange],
}

/// A commit as it is shown.
#[derive(Debug, Clone, serde::Serialize)]
pub struct CommitLine {
    /// 40 hexadecimal digits.
    pub sha: String,
    /// The first line of its message.
    pub subject: String,
    /// Its author.
    pub author: String,
    /// Seconds since the epoch.
    pub at: i64,
}

/// How much a pull request changes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct DiffSize {
    pub files: u64,
    pub additions: u64,
    pub deletions: u64,
}

impl BareRepo {
    pub(super) async fn create(path: &Path) -> Result<Self, StandinError> {
        std::fs::create_dir_all(path)
            .map_err(|error| StandinError::new(format!("folder {} could not be made", path.display()), error))?;
        let repo = Self { path: path.to_owned() };
        repo.git(&["init", "--quiet", "--bare", "--initial-branch=main", "."], None).await?;
        for (key, value) in [
            ("uploadpack.allowAnySHA1InWant", "true"),
            ("uploadpack.allowFilter", "true"),
            ("gc.auto", "0"),
            ("core.logAllRefUpdates", "false"),
        ] {
            repo.git(&["config", key, value], None).await?;
        }
        Ok(repo)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes a commit, moves its reference there, whatever stood there before, and gives its id.
    pub(super) async fn commit(&self, new: &NewCommit<'_>) -> Result<String, StandinError> {
        let mut stream = Vec::new();
        let person = format!("{} <{}@users.noreply.example>", plain(new.author), plain(new.author));
        if new.parent.is_none() {
            stream.extend_from_slice(format!("reset {}\n\n", new.reference).as_bytes());
        }
        let mut head = format!("commit {}\ncommitter {person} {} +0000\n", new.reference, new.at);
        let _ = write!(head, "data {}\n{}\n", new.message.len(), new.message);
        if let Some(parent) = new.parent {
            let _ = writeln!(head, "from {parent}");
        }
        stream.extend_from_slice(head.as_bytes());
        for change in new.changes {
            match change {
                FileChange::Write { path, content } => {
                    let mode = if content.starts_with(b"#!") { "100755" } else { "100644" };
                    stream.extend_from_slice(format!("M {mode} inline {}\n", quoted(path)).as_bytes());
                    stream.extend_from_slice(format!("data {}\n", content.len()).as_bytes());
                    stream.extend_from_slice(content);
                    stream.push(b'\n');
                }
                FileChange::Delete { path } => {
                    stream.extend_from_slice(format!("D {}\n", quoted(path)).as_bytes());
                }
            }
        }
        stream.extend_from_slice(b"\ndone\n");
        self.git(&["fast-import", "--quiet", "--force", "--done", "--date-format=raw"], Some(&stream)).await?;
        let said = self.git(&["rev-parse", "--verify", new.reference], None).await?;
        Ok(said.trim().to_owned())
    }

    pub(super) async fn set_ref(&self, reference: &str, sha: &str) -> Result<(), StandinError> {
        self.git(&["update-ref", reference, sha], None).await.map(drop)
    }

    /// The commit that a branch, tag, full reference or (abbreviated) id names.
    pub(super) async fn resolve(&self, name: &str) -> Option<String> {
        for candidate in [format!("refs/heads/{name}"), format!("refs/tags/{name}"), name.to_owned()] {
            let candidate = format!("{candidate}^{{commit}}");
            let args = ["rev-parse", "--verify", "--quiet", "--end-of-options", &candidate];
            if let Ok(said) = self.git(&args, None).await {
                return Some(said.trim().to_owned());
            }
        }
        None
    }

    /// A file at a commit, or the names in a folder.
    pub(super) async fn read(&self, commit: &str, path: &str) -> Result<Option<Entry>, StandinError> {
        if path.contains('\n') {
            return Ok(None);
        }
        let question = format!("{commit}:{path}\n");
        let said = self.git_bytes(&["cat-file", "--batch"], Some(question.as_bytes())).await?;
        let Some(end) = said.iter().position(|byte| *byte == b'\n') else { return Ok(None) };
        let header = String::from_utf8_lossy(&said[..end]).into_owned();
        let mut words = header.split(' ');
        let (Some(sha), Some(kind)) = (words.next(), words.next()) else { return Ok(None) };
        match kind {
            "blob" => {
                let content = said[end + 1..].strip_suffix(b"\n").unwrap_or_default().to_vec();
                Ok(Some(Entry::File { sha: sha.to_owned(), content }))
            }
            "tree" => {
                let listing = self.git(&["ls-tree", "-z", sha], None).await?;
                Ok(Some(Entry::Folder(listing.split_terminator('\0').filter_map(FolderEntry::parse).collect())))
            }
            _ => Ok(None),
        }
    }

    /// Every file of a commit, by path.
    pub(super) async fn files(&self, commit: &str) -> Result<BTreeMap<String, Vec<u8>>, StandinError> {
        let listing = self.git(&["ls-tree", "-r", "-z", "--name-only", commit], None).await?;
        let mut files = BTreeMap::new();
        for path in listing.split_terminator('\0') {
            if let Some(Entry::File { content, .. }) = self.read(commit, path).await? {
                files.insert(path.to_owned(), content);
            }
        }
        Ok(files)
    }

    /// Commits of `head` that `base` does not have, oldest first.
    pub(super) async fn commits(&self, base: &str, head: &str) -> Result<Vec<CommitLine>, StandinError> {
        let range = format!("{base}..{head}");
        let args = ["log", "--reverse", "--format=%H%x00%s%x00%an%x00%ct", &range, "--"];
        let said = self.git(&args, None).await?;
        let line = |line: &str| {
            let mut parts = line.split('\0');
            Some(CommitLine {
                sha: parts.next()?.to_owned(),
                subject: parts.next()?.to_owned(),
                author: parts.next()?.to_owned(),
                at: parts.next()?.parse().ok()?,
            })
        };
        Ok(said.lines().filter_map(line).collect())
    }

    /// A commit's message and its tree.
    pub(super) async fn message(&self, commit: &str) -> Result<(String, String), StandinError> {
        let said = self.git(&["log", "-1", "--format=%T%n%B", commit, "--"], None).await?;
        let (tree, message) = said.split_once('\n').unwrap_or_default();
        Ok((message.trim_end().to_owned(), tree.to_owned()))
    }

    /// What one commit changes, as a unified diff.
    pub(super) async fn patch(&self, commit: &str) -> Result<String, StandinError> {
        self.git(&["show", "--format=", "--no-color", "--no-ext-diff", "--find-renames", commit, "--"], None).await
    }

    pub(super) async fn diff_size(&self, base: &str, head: &str) -> Result<DiffSize, StandinError> {
        let range = format!("{base}...{head}");
        let said = self.git(&["diff", "--numstat", "--no-ext-diff", &range, "--"], None).await?;
        let mut size = DiffSize::default();
        for line in said.lines() {
            let mut words = line.split('\t');
            size.files += 1;
            size.additions += words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
            size.deletions += words.next().and_then(|word| word.parse::<u64>().ok()).unwrap_or(0);
        }
        Ok(size)
    }

    /// Merges `head` into the branch `base`; `None` if they conflict.
    pub(super) async fn merge(
        &self,
        base: &str,
        head: &str,
        message: &str,
        at: i64,
    ) -> Result<Option<String>, StandinError> {
        let reference = format!("refs/heads/{base}");
        let tree = match self.git(&["merge-tree", "--write-tree", &reference, head], None).await {
            Ok(said) => said.lines().next().unwrap_or_default().to_owned(),
            Err(_) => return Ok(None),
        };
        let date = format!("{at} +0000");
        let mut command = self.command(&["commit-tree", &tree, "-p", &reference, "-p", head, "-F", "-"]);
        command.env("GIT_AUTHOR_DATE", &date).env("GIT_COMMITTER_DATE", &date);
        let said = run(command, Some(message.as_bytes())).await?;
        let sha = String::from_utf8_lossy(&said).trim().to_owned();
        self.set_ref(&reference, &sha).await?;
        Ok(Some(sha))
    }

    async fn git(&self, args: &[&str], input: Option<&[u8]>) -> Result<String, StandinError> {
        let said = self.git_bytes(args, input).await?;
        Ok(String::from_utf8_lossy(&said).into_owned())
    }

    async fn git_bytes(&self, args: &[&str], input: Option<&[u8]>) -> Result<Vec<u8>, StandinError> {
        run(self.command(args), input).await
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = git_command();
        command.current_dir(&self.path).args(args);
        command
    }
}

/// Something in a repository.
#[derive(Debug)]
pub(super) enum Entry {
    File { sha: String, content: Vec<u8> },
    Folder(Vec<FolderEntry>),
}

/// A line of a folder's listing.
#[derive(Debug)]
pub(super) struct FolderEntry {
    pub name: String,
    pub kind: &'static str,
    pub sha: String,
}

impl FolderEntry {
    fn parse(line: &str) -> Option<Self> {
        let (meta, name) = line.split_once('\t')?;
        let mut words = meta.split(' ').skip(1);
        let kind = if words.next()? == "tree" { "dir" } else { "file" };
        Some(Self { name: name.to_owned(), kind, sha: words.next()?.to_owned() })
    }
}

/// The git binary without the machine's configuration.
pub(super) fn git_command() -> Command {
    let mut command = Command::new("git");
    let path = std::env::var_os("PATH").unwrap_or_default();
    command.env_clear().env("PATH", path).env("LC_ALL", "C");
    command.env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_TERMINAL_PROMPT", "0");
    for who in ["AUTHOR", "COMMITTER"] {
        command.env(format!("GIT_{who}_NAME"), "Stand-in").env(format!("GIT_{who}_EMAIL"), "noreply@standin.example");
    }
    command.kill_on_drop(true);
    command
}

async fn run(mut command: Command, input: Option<&[u8]>) -> Result<Vec<u8>, StandinError> {
    let what = format!("{:?} failed", command.as_std());
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child =
        command.spawn().map_err(|error| StandinError::new("git could not be started; is it installed?", error))?;
    let pipe = child.stdin.take();
    let feed = async {
        if let (Some(mut pipe), Some(input)) = (pipe, input) {
            // A git that stops early says why on its error output.
            let _ = pipe.write_all(input).await;
        }
    };
    let ((), output) = tokio::join!(feed, child.wait_with_output());
    let output = output.map_err(|error| StandinError::new(&what, error))?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(StandinError::new(what, String::from_utf8_lossy(&output.stderr).trim()))
    }
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !c.is_control() && !matches!(c, '<' | '>')).collect()
}

/// A path as fast-import takes it.
fn quoted(path: &str) -> String {
    let mut text = String::from("\"");
    for c in path.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text.push('"');
    text
}
