//! A seed as a file: what format it has, and a digest that changes when it does.
//!
//! Guarantees: a format is what the content says, not what the name ends in; the digest covers every byte
//! that will be loaded, and is computed again only if size or time of the source changed.
//! Must not know: servers.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use sha2::{Digest as _, Sha256};

use crate::domain::id::SeedName;

/// Changes when what is done to a loaded seed changes: goldens of an older recipe are made anew.
const RECIPE: &str = "1";

/// The golden data of an installation, as the operator gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Golden {
    /// How `.kagero.yml` calls it.
    pub name: SeedName,
    /// The file, or the directory of a directory dump.
    pub source: PathBuf,
    /// Its format; `None`: what the content says.
    pub format: Option<SeedFormat>,
    /// Extensions that only a superuser may create: made before the seed is loaded.
    pub extensions: Vec<String>,
}

/// Formats of a seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SeedFormat {
    /// SQL text, for psql or for SQLite.
    Plain,
    /// `pg_dump -Fc`.
    Custom,
    /// `pg_dump -Fd`.
    Directory,
    /// A SQLite database.
    SqliteFile,
}

/// Why a seed cannot be loaded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// It cannot be read.
    #[error("seed {seed}: {path} cannot be read: {why}. Put the seed there, or change its path in kagero.toml")]
    Unreadable {
        /// The seed.
        seed: SeedName,
        /// Its path.
        path: PathBuf,
        /// The cause.
        why: String,
    },
    /// It is no seed for this engine.
    #[error("seed {seed}: {path} {problem}")]
    Format {
        /// The seed.
        seed: SeedName,
        /// Its path.
        path: PathBuf,
        /// What is wrong, and what to do.
        problem: &'static str,
    },
    /// A statement in it failed.
    #[error("seed {seed}: {path} failed {at}: {message}{statement}. {next_step}")]
    Statement {
        /// The seed.
        seed: SeedName,
        /// Its path.
        path: PathBuf,
        /// `at line 12`, or `at its entry …`.
        at: Box<str>,
        /// What the database said.
        message: Box<str>,
        /// The statement, if it is known, with its introduction.
        statement: Box<str>,
        /// What to do.
        next_step: &'static str,
    },
    /// A program could not be run or ended without an explanation.
    #[error("seed {seed}: {program} {why}")]
    Program {
        /// The seed.
        seed: SeedName,
        /// The program.
        program: &'static str,
        /// The cause.
        why: String,
    },
}

impl Golden {
    /// The format, from the operator or from the content.
    pub fn detect(&self) -> Result<SeedFormat, SeedError> {
        let metadata = std::fs::metadata(&self.source).map_err(|error| self.unreadable(&error))?;
        if metadata.is_dir() {
            let is_dump = self.source.join("toc.dat").is_file();
            return if is_dump {
                Ok(SeedFormat::Directory)
            } else {
                Err(self.not(
                    "is a directory without toc.dat: \
                expected what `pg_dump --format=directory` writes",
                ))
            };
        }
        let mut head = Vec::new();
        let file = File::open(&self.source).map_err(|error| self.unreadable(&error))?;
        file.take(16).read_to_end(&mut head).map_err(|error| self.unreadable(&error))?;
        let found = match &head[..] {
            [] => return Err(self.not("is empty: dump the database again")),
            head if head.starts_with(b"PGDMP") => SeedFormat::Custom,
            head if head.starts_with(b"SQLite format 3\0") => SeedFormat::SqliteFile,
            head if head.starts_with(&[0x1f, 0x8b]) || head.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) => {
                return Err(self.not("is compressed: decompress it, or dump with --format=custom"));
            }
            head if head.contains(&0) => {
                return Err(self.not("is neither SQL text nor a dump of pg_dump or SQLite"));
            }
            _ => SeedFormat::Plain,
        };
        match self.format {
            Some(said) if said != found => Err(self.not("is not of the format that kagero.toml says")),
            _ => Ok(found),
        }
    }

    /// An error about the format.
    pub fn not(&self, problem: &'static str) -> SeedError {
        SeedError::Format { seed: self.name.clone(), path: self.source.clone(), problem }
    }

    fn unreadable(&self, error: &io::Error) -> SeedError {
        SeedError::Unreadable { seed: self.name.clone(), path: self.source.clone(), why: error.to_string() }
    }
}

/// Remembers digests, because reading a gigabyte for each clone would cost more than the clone.
#[derive(Debug, Default)]
pub struct Digests(Mutex<BTreeMap<PathBuf, (Trace, String)>>);

/// What a file's metadata say of its content: path, inode, size, time of change.
type Trace = Vec<(PathBuf, u64, u64, i64, i64)>;

impl Digests {
    /// The digest of what would be loaded.
    pub async fn of(&self, golden: &Golden) -> Result<String, SeedError> {
        let source = golden.source.clone();
        let known = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner).get(&source).cloned();
        let work = tokio::task::spawn_blocking(move || {
            let files = files_of(&source)?;
            let trace = trace(&files)?;
            match known {
                Some((old, digest)) if old == trace => Ok((trace, digest)),
                _ => digest_of(&source, &files).map(|digest| (trace, digest)),
            }
        });
        let (trace, digest) = match work.await {
            Ok(done) => done.map_err(|error| golden.unreadable(&error))?,
            Err(error) => return Err(golden.unreadable(&io::Error::other(error))),
        };
        let mut memory = self.0.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        memory.insert(golden.source.clone(), (trace, digest.clone()));
        let mut hasher = Sha256::new();
        for part in [RECIPE, &digest].into_iter().chain(golden.extensions.iter().map(String::as_str)) {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Ok(hex::encode(hasher.finalize()))
    }
}

fn files_of(source: &Path) -> io::Result<Vec<PathBuf>> {
    if !std::fs::metadata(source)?.is_dir() {
        return Ok(vec![source.to_owned()]);
    }
    let mut files = std::fs::read_dir(source)?.map(|e| e.map(|e| e.path())).collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

fn trace(files: &[PathBuf]) -> io::Result<Trace> {
    let of = |path: &PathBuf| {
        let m = std::fs::metadata(path)?;
        Ok((path.clone(), m.ino(), m.len(), m.mtime(), m.mtime_nsec()))
    };
    files.iter().map(of).collect()
}

fn digest_of(source: &Path, files: &[PathBuf]) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for path in files {
        let name = path.strip_prefix(source).unwrap_or(path).to_string_lossy();
        let mut file = File::open(path)?;
        let length = file.metadata()?.len();
        hasher.update((name.len() as u64).to_be_bytes());
        if path != source {
            hasher.update(name.as_bytes());
        }
        hasher.update(length.to_be_bytes());
        loop {
            let read = file.read(&mut buffer)?;
            if read == 0 {
                break;
            }
            hasher.update(&buffer[..read]);
        }
    }
    Ok(hex::encode(hasher.finalize()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn golden(source: &Path) -> Golden {
        Golden {
            name: SeedName::parse("shop").unwrap(),
            source: source.to_owned(),
            format: None,
            extensions: Vec::new(),
        }
    }

    #[test]
    fn the_content_says_the_format() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seed");
        for (content, want) in [
            (&b"CREATE TABLE a (b int);"[..], Some(SeedFormat::Plain)),
            (b"PGDMP\x01\x0e\0", Some(SeedFormat::Custom)),
            (b"SQLite format 3\0....", Some(SeedFormat::SqliteFile)),
            (b"\x1f\x8b\x08", None),
            (b"", None),
            (b"\x7fELF\0\0", None),
        ] {
            std::fs::write(&file, content).unwrap();
            assert_eq!(golden(&file).detect().ok(), want);
        }
        assert!(golden(dir.path()).detect().unwrap_err().to_string().contains("toc.dat"));
        let missing = golden(&dir.path().join("none")).detect().unwrap_err().to_string();
        assert!(missing.contains("cannot be read") && missing.contains("kagero.toml"), "{missing}");
    }

    #[tokio::test]
    async fn a_changed_seed_has_another_digest() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("seed.sql");
        let digests = Digests::default();
        std::fs::write(&file, "SELECT 1").unwrap();
        let one = digests.of(&golden(&file)).await.unwrap();
        assert_eq!(one, digests.of(&golden(&file)).await.unwrap());
        let with_extension = Golden { extensions: vec!["hstore".to_owned()], ..golden(&file) };
        assert_ne!(one, digests.of(&with_extension).await.unwrap());
        std::fs::write(&file, "SELECT 22").unwrap();
        assert_ne!(one, digests.of(&golden(&file)).await.unwrap());
    }
}
