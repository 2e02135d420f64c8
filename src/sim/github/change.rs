//! Changes to a repository's files, as data: what a commit, a prepared pull request and a repository's
//! first commit are made of.
//!
//! Must not know: git, HTTP, the shop.

use std::collections::BTreeMap;

/// One file that a commit touches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FileChange {
    /// The file is there with this content afterwards.
    Write {
        /// Relative to the repository, with `/`.
        path: String,
        /// All of it.
        content: Vec<u8>,
    },
    /// The file is gone afterwards.
    Delete {
        /// Relative to the repository, with `/`.
        path: String,
    },
}

impl FileChange {
    /// A text file.
    pub fn write(path: impl Into<String>, content: impl Into<String>) -> Self {
        Self::Write { path: path.into(), content: content.into().into_bytes() }
    }
}

/// Files by path: a repository's first commit.
pub type Files = BTreeMap<String, Vec<u8>>;

/// A pull request that the page offers to open, and what further pushes to it bring.
#[derive(Debug, Clone)]
pub struct PreparedChange {
    /// Names it in the form; part of the branch's name.
    pub key: String,
    /// Title of the pull request.
    pub title: String,
    /// Its description, Markdown.
    pub body: String,
    /// One sentence on what will be seen.
    pub hint: String,
    /// The commits in order. The page pushes the next one each time, and begins again with the second one
    /// after the last.
    pub commits: Vec<PreparedCommit>,
}

/// One commit of a prepared change.
#[derive(Debug, Clone)]
pub struct PreparedCommit {
    /// Its message.
    pub message: String,
    /// What it does.
    pub edits: Vec<Edit>,
}

/// A change that depends on what the file holds already.
#[derive(Debug, Clone)]
pub enum Edit {
    /// Writes a file.
    Write {
        /// Relative to the repository.
        path: String,
        /// All of it.
        content: String,
    },
    /// Replaces every line that begins so. The file is left alone if there is none.
    Line {
        /// Relative to the repository.
        path: String,
        /// How the line begins.
        begins: String,
        /// What stands there afterwards.
        with: String,
    },
}

impl PreparedChange {
    /// The commit that the given push brings; the first one is number 0.
    pub fn commit(&self, push: usize) -> Option<&PreparedCommit> {
        if push < self.commits.len() {
            return self.commits.get(push);
        }
        let later = self.commits.len().checked_sub(1).filter(|later| *later > 0)?;
        self.commits.get(1 + (push - 1) % later)
    }
}

impl PreparedCommit {
    /// The files that it writes, given those that are there.
    pub fn apply(&self, files: &Files) -> Vec<FileChange> {
        let mut changed = Files::new();
        for edit in &self.edits {
            match edit {
                Edit::Write { path, content } => {
                    changed.insert(path.clone(), content.clone().into_bytes());
                }
                Edit::Line { path, begins, with } => {
                    let Some(old) = changed.get(path).or_else(|| files.get(path)) else { continue };
                    let old = String::from_utf8_lossy(old).into_owned();
                    let lines = old.lines().map(|line| if line.starts_with(begins.as_str()) { with } else { line });
                    let mut new = lines.collect::<Vec<_>>().join("\n");
                    new.push('\n');
                    changed.insert(path.clone(), new.into_bytes());
                }
            }
        }
        changed.into_iter().map(|(path, content)| FileChange::Write { path, content }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_go_through_the_commits_and_begin_again_with_the_second() {
        let commit = |message: &str| PreparedCommit { message: message.to_owned(), edits: Vec::new() };
        let change = PreparedChange {
            key: "k".into(),
            title: "t".into(),
            body: "b".into(),
            hint: "h".into(),
            commits: vec![commit("a"), commit("b"), commit("c")],
        };
        let said: Vec<_> =
            (0..6).filter_map(|push| change.commit(push)).map(|commit| commit.message.as_str()).collect();
        assert_eq!(said, ["a", "b", "c", "b", "c", "b"]);
    }

    #[test]
    fn edits_build_on_each_other_and_on_the_files() {
        let files = Files::from([("t".to_owned(), b"a = 1\nb = 2\n".to_vec())]);
        let line = |begins: &str, with: &str| Edit::Line { path: "t".into(), begins: begins.into(), with: with.into() };
        let commit = PreparedCommit { message: "m".into(), edits: vec![line("a =", "a = 3"), line("b =", "b = 4")] };
        assert_eq!(commit.apply(&files), [FileChange::write("t", "a = 3\nb = 4\n")]);
    }
}
