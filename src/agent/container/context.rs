//! What a build of an image sees: a folder of the checkout as a stream.
//!
//! Guarantees: nothing outside the folder is read, whatever links lead there: links go in as links; what `.dockerignore`
//! names stays out; no more than the limit is sent.
//! Must not know: what it is for.

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fast_glob::glob_match;
use futures::Stream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::domain::container::CheckoutPath;

/// Bytes of one piece of the stream, and how many may wait.
const PIECE: usize = 64 << 10;
const WAITING: usize = 16;
/// Patterns are matched against every path.
const IGNORE_BYTES: u64 = 64 << 10;

/// A place within a checkout, followed to its end; an error says what is wrong with it.
pub(super) fn within(checkout: &Path, path: &CheckoutPath) -> Result<PathBuf, String> {
    let root = checkout.canonicalize().map_err(|error| format!("the checkout cannot be read ({error})"))?;
    let found = root.join(path.as_str()).canonicalize().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => format!("`{path}` is not in the repository; check the path"),
        _ => format!("`{path}` cannot be read ({error})"),
    })?;
    if found.starts_with(&root) {
        Ok(found)
    } else {
        Err(format!("`{path}` leads out of the repository; remove the link"))
    }
}

/// The folder as a tar archive. An error ends the stream.
pub(super) fn stream(
    folder: PathBuf,
    dockerfile: CheckoutPath,
    most_bytes: u64,
) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (pieces, taken) = mpsc::channel(WAITING);
    tokio::task::spawn_blocking(move || {
        let writer = Pieces { taker: pieces.clone(), left: most_bytes, most: most_bytes };
        if let Err(error) = pack(&folder, dockerfile.as_str(), io::BufWriter::with_capacity(PIECE, writer)) {
            // Who reads no more has its reasons.
            let _ = pieces.blocking_send(Err(error));
        }
    });
    ReceiverStream::new(taken)
}

struct Pieces {
    taker: mpsc::Sender<io::Result<Bytes>>,
    left: u64,
    most: u64,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(left) = self.left.checked_sub(bytes.len() as u64) else {
            let message = format!(
                "the build's folder has more than {} MiB; name what the build does not need in .dockerignore",
                self.most >> 20
            );
            return Err(io::Error::other(message));
        };
        self.left = left;
        let sent = self.taker.blocking_send(Ok(Bytes::copy_from_slice(bytes)));
        sent.map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn pack(folder: &Path, dockerfile: &str, writer: impl Write) -> io::Result<()> {
    let ignored = Ignored::read(folder);
    let mut archive = tar::Builder::new(writer);
    archive.follow_symlinks(false);
    // The same whoever has checked out and when: what has not changed is not built again.
    archive.mode(tar::HeaderMode::Deterministic);
    let mut next = vec![PathBuf::new()];
    while let Some(directory) = next.pop() {
        let mut entries: Vec<_> = fs::read_dir(folder.join(&directory))?.collect::<io::Result<_>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            let (path, kind) = (directory.join(entry.file_name()), entry.file_type()?);
            let name = path.to_string_lossy();
            let is_needed = name == dockerfile || name == IGNORE_FILE;
            let out = !is_needed && ignored.contains(&name);
            if kind.is_dir() {
                if !out {
                    archive.append_path_with_name(folder.join(&path), &path)?;
                }
                if !out || ignored.has_exceptions || dockerfile.starts_with(&*format!("{name}/")) {
                    next.push(path);
                }
            } else if !out && (kind.is_file() || kind.is_symlink()) {
                archive.append_path_with_name(folder.join(&path), &path)?;
            }
        }
    }
    archive.into_inner()?.flush()
}

const IGNORE_FILE: &str = ".dockerignore";

/// The patterns of `.dockerignore`: the last one that matches a path, or a folder above it, decides.
#[derive(Debug, Default)]
struct Ignored {
    patterns: Vec<(String, bool)>,
    has_exceptions: bool,
}

impl Ignored {
    fn read(folder: &Path) -> Self {
        let path = folder.join(IGNORE_FILE);
        let is_ours = fs::symlink_metadata(&path).is_ok_and(|data| data.is_file() && data.len() <= IGNORE_BYTES);
        Self::parse(&if is_ours { fs::read_to_string(path).unwrap_or_default() } else { String::new() })
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let patterns: Vec<(String, bool)> = lines
            .map(|line| match line.strip_prefix('!') {
                Some(rest) => (rest.trim(), false),
                None => (line, true),
            })
            .map(|(pattern, out)| {
                let pattern = pattern.trim_start_matches("./").trim_start_matches('/').trim_end_matches('/');
                (pattern.to_owned(), out)
            })
            .filter(|(pattern, _)| !pattern.is_empty())
            .collect();
        let has_exceptions = patterns.iter().any(|(_, out)| !out);
        Self { patterns, has_exceptions }
    }

    fn contains(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        let names: Vec<&str> = above.chain([path]).collect();
        let decides = |(pattern, _): &&(String, bool)| names.iter().any(|name| glob_match(pattern, name));
        self.patterns.iter().rev().find(decides).is_some_and(|(_, out)| *out)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;

    use futures::TryStreamExt as _;

    use super::*;

    async fn packed(folder: &Path, most: u64) -> io::Result<BTreeMap<String, String>> {
        let dockerfile = CheckoutPath::parse("build/Dockerfile").unwrap();
        let pieces: Vec<Bytes> = stream(folder.to_owned(), dockerfile, most).try_collect().await?;
        let bytes = pieces.concat();
        let mut archive = tar::Archive::new(&bytes[..]);
        let entries = archive.entries()?.map(|entry| {
            let mut entry = entry?;
            let name = entry.path()?.to_string_lossy().trim_end_matches('/').to_owned();
            let mut text = String::new();
            entry.read_to_string(&mut text)?;
            if let Some(link) = entry.link_name()? {
                text = format!("-> {}", link.display());
            }
            Ok((name, text))
        });
        entries.collect()
    }

    #[tokio::test]
    async fn links_stay_links_and_what_is_ignored_stays_out() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("checkout");
        for path in ["build", "node_modules/a", "docs/b"] {
            fs::create_dir_all(folder.join(path)).unwrap();
        }
        fs::write(dir.path().join("secret"), "secret").unwrap();
        std::os::unix::fs::symlink(dir.path().join("secret"), folder.join("link")).unwrap();
        std::os::unix::fs::symlink(dir.path(), folder.join("docs/up")).unwrap();
        for (path, text) in [
            ("build/Dockerfile", "FROM scratch"),
            ("node_modules/a/x.js", "x"),
            ("docs/b/kept.md", "kept"),
            ("docs/b/other.md", "other"),
            ("app.rb", "app"),
            (".dockerignore", "# comment\nnode_modules\n/docs/**\n!docs/b/kept.md\n*.tmp\nbuild/\n"),
            ("x.tmp", "x"),
        ] {
            fs::write(folder.join(path), text).unwrap();
        }
        let found = packed(&folder, 1 << 20).await.unwrap();
        let names: Vec<&str> = found.keys().map(String::as_str).collect();
        assert_eq!(names, [".dockerignore", "app.rb", "build/Dockerfile", "docs", "docs/b/kept.md", "link"]);
        assert!(found["link"].starts_with("-> "), "{found:?}");
        assert!(!found.values().any(|text| text == "secret"));

        let error = packed(&folder, 2_000).await.unwrap_err().to_string();
        assert!(error.contains(".dockerignore"), "{error}");
    }

    #[test]
    fn places_outside_the_checkout_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let checkout = dir.path().join("checkout");
        fs::create_dir_all(checkout.join("app")).unwrap();
        std::os::unix::fs::symlink("/etc", checkout.join("etc")).unwrap();
        let at = |path: &str| within(&checkout, &CheckoutPath::parse(path).unwrap());
        assert!(at(".").is_ok() && at("app").is_ok());
        assert!(at("etc").unwrap_err().contains("leads out of the repository"));
        assert!(at("etc/passwd").unwrap_err().contains("leads out of the repository"));
        assert!(at("missing").unwrap_err().contains("is not in the repository"));
    }
}
