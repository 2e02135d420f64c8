//! A unified diff as rows of a table.

use serde::Serialize;

/// A file of a diff.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct FileDiff {
    pub path: String,
    pub additions: usize,
    pub deletions: usize,
    pub rows: Vec<Row>,
}

/// A line of a file's diff.
#[derive(Debug, Serialize, PartialEq, Eq)]
pub(super) struct Row {
    /// `add`, `del`, `same` or `hunk`.
    pub kind: &'static str,
    pub old: Option<usize>,
    pub new: Option<usize>,
    pub text: String,
}

const LONGEST: usize = 400;

/// Reads the output of `git show --format=`.
pub(super) fn parse(patch: &str) -> Vec<FileDiff> {
    let mut files: Vec<FileDiff> = Vec::new();
    let (mut old, mut new) = (0, 0);
    let mut in_hunk = false;
    for line in patch.lines() {
        if let Some(names) = line.strip_prefix("diff --git ") {
            let path = names.rsplit_once(" b/").map_or(names, |(_, path)| path).to_owned();
            files.push(FileDiff { path, additions: 0, deletions: 0, rows: Vec::new() });
            in_hunk = false;
            continue;
        }
        let Some(file) = files.last_mut() else { continue };
        if let Some(range) = line.strip_prefix("@@ ") {
            in_hunk = true;
            (old, new) = starts(range);
            file.rows.push(Row { kind: "hunk", old: None, new: None, text: line.to_owned() });
        } else if in_hunk {
            let Some(sign) = line.chars().next() else { continue };
            let text = line[sign.len_utf8()..].to_owned();
            let row = match sign {
                '+' => Row { kind: "add", old: None, new: Some(new), text },
                '-' => Row { kind: "del", old: Some(old), new: None, text },
                ' ' => Row { kind: "same", old: Some(old), new: Some(new), text },
                _ => continue,
            };
            old += usize::from(sign != '+');
            new += usize::from(sign != '-');
            file.additions += usize::from(sign == '+');
            file.deletions += usize::from(sign == '-');
            if file.rows.len() < LONGEST {
                file.rows.push(row);
            }
        }
    }
    files
}

/// The first line numbers of `-1,3 +1,4 @@ …`.
fn starts(range: &str) -> (usize, usize) {
    let number = |sign: char| {
        let word = range.split(' ').find(|word| word.starts_with(sign))?;
        word[1..].split(',').next()?.parse().ok()
    };
    (number('-').unwrap_or(0), number('+').unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_numbered_on_both_sides() {
        let files = parse(
            "diff --git a/t.toml b/t.toml\nindex 1..2 100644\n--- a/t.toml\n+++ b/t.toml\n@@ -3,2 +3,2 @@ x\n a\n-b\n+c\n",
        );
        let rows: Vec<_> = files[0].rows.iter().map(|row| (row.kind, row.old, row.new, row.text.as_str())).collect();
        assert_eq!(
            rows,
            [
                ("hunk", None, None, "@@ -3,2 +3,2 @@ x"),
                ("same", Some(3), Some(3), "a"),
                ("del", Some(4), None, "b"),
                ("add", None, Some(4), "c"),
            ]
        );
        assert_eq!((files[0].path.as_str(), files[0].additions, files[0].deletions), ("t.toml", 1, 1));
    }
}
