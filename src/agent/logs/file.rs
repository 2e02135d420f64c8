//! One log on disk, bounded: its beginning and its end are kept.
//!
//! Guarantees: never more bytes than the bound; a write that fails (disk full) loses lines, never blocks or
//! fails the writer.
//! Must not know: what is written.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};

/// A log that is being written: `<name>.log`, and past its first half `<name>.log.2`, which becomes
/// `<name>.log.1` when it is full.
pub struct BoundedFile {
    path: PathBuf,
    /// Bytes of the beginning; each of the two later parts has half as many.
    head_bytes: u64,
    file: Option<File>,
    part: Part,
    written: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Head,
    Older,
    Newer,
}

impl BoundedFile {
    /// Begins a new log.
    pub fn create(path: &Path, bytes: u64) -> Self {
        Self { path: path.to_owned(), head_bytes: bytes / 2, file: open(path), part: Part::Head, written: 0 }
    }

    /// Adds a line.
    pub fn write(&mut self, line: &str) {
        let room = if self.part == Part::Head { self.head_bytes } else { self.head_bytes / 2 };
        let length = line.len() as u64;
        if self.written + length > room {
            let newer = part_path(&self.path, Part::Newer);
            if self.part == Part::Newer {
                // If it cannot be moved it is overwritten: the bound holds in any case.
                let _ = fs::rename(&newer, part_path(&self.path, Part::Older));
            }
            self.part = Part::Newer;
            self.file = open(&newer);
            self.written = 0;
        }
        if let Some(file) = &mut self.file
            && file.write_all(line.as_bytes()).is_ok()
        {
            self.written += length;
        }
    }
}

fn open(path: &Path) -> Option<File> {
    OpenOptions::new().write(true).create(true).truncate(true).open(path).ok()
}

fn part_path(path: &Path, part: Part) -> PathBuf {
    let suffix = match part {
        Part::Head => return path.to_owned(),
        Part::Older => ".1",
        Part::Newer => ".2",
    };
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// The text of a log: its beginning, and after a gap, if there is one, its end.
pub fn read(path: &Path) -> io::Result<Kept> {
    let part = |part| read_part(path, part).unwrap_or_default();
    Ok(Kept { head: read_part(path, Part::Head)?, tail: part(Part::Older) + &part(Part::Newer) })
}

/// What is left of a log.
pub struct Kept {
    /// Its beginning.
    pub head: String,
    /// Its end, empty if the log never outgrew its beginning.
    pub tail: String,
}

fn read_part(path: &Path, part: Part) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(part_path(path, part))?.read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn beginning_and_end_of_a_flood_are_kept_within_the_bound() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("build.log");
        let mut log = BoundedFile::create(&path, 4000);
        for number in 0..10_000 {
            log.write(&format!("line {number}\n"));
        }
        let on_disk: u64 = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().metadata().unwrap().len()).sum();
        assert!(on_disk <= 4000, "{on_disk}");
        let kept = read(&path).unwrap();
        assert!(kept.head.starts_with("line 0\nline 1\n"));
        assert!(kept.tail.ends_with("line 9998\nline 9999\n"));
        let numbers: Vec<u32> = kept.tail.lines().map(|l| l.trim_start_matches("line ").parse().unwrap()).collect();
        assert!(numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the end is in order and whole");
    }

    #[test]
    fn a_full_disk_loses_lines_and_nothing_else() {
        let mut log = BoundedFile::create(Path::new("/dev/full"), 4000);
        log.write("lost\n");
        assert_eq!(log.written, 0);
    }
}
