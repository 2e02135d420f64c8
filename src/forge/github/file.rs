//! Reading one file.
//!
//! Guarantees: "the file is not there" is only said after GitHub has shown that it lets us read that very
//! branch or commit: a 404 alone may just as well mean lost access.
//! Must not know: what the file is for.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::call::Ask;
use super::{ForgeError, Github, RepoRef, path, wire};
use crate::forge::ForgeErrorKind;

/// Answers with the commit's SHA only.
const SHA: &str = "application/vnd.github.sha";
/// GitHub gives no content of files beyond that.
const LARGEST_FILE: u64 = 1 << 20;

impl Github {
    pub(super) async fn read_file(
        &self,
        repo: &RepoRef,
        path: &str,
        reference: &str,
    ) -> Result<Option<String>, ForgeError> {
        let what = format!("reading {path} of {} at {reference}", repo.name);
        let rejected = |error: path::BadPath| ForgeError {
            kind: ForgeErrorKind::Rejected,
            what: what.clone(),
            why: error.to_string(),
        };
        let place = format!("contents/{}", path::segments(path).map_err(rejected)?);
        let ask = Self::ask(repo, &path::with(&place, &[("ref", reference)]), what.clone())?;
        let missing = match self.calls.read::<wire::Contents, _>(&ask, |_| true).await {
            Ok(reading) => return text(&ask, reading.value).map(Some),
            Err(error) if error.kind == ForgeErrorKind::NotFound => error,
            Err(error) => return Err(error),
        };

        let commit = format!("commits/{}", path::segments(reference).map_err(rejected)?);
        let mut proof = Self::ask(repo, &commit, what.clone())?;
        proof.accept = SHA;
        match self.calls.read_text(&proof).await {
            Ok(sha) if is_sha(&sha) => Ok(None),
            Ok(_) => {
                Err(proof.error(ForgeErrorKind::Garbled, "GitHub answered a question for a commit with something else"))
            }
            Err(error) if matches!(error.kind, ForgeErrorKind::NotFound | ForgeErrorKind::Rejected) => Err(missing),
            Err(error) => Err(error),
        }
    }
}

fn is_sha(text: &[u8]) -> bool {
    matches!(text.len(), 40 | 64) && text.iter().all(u8::is_ascii_hexdigit)
}

fn text(ask: &Ask, contents: wire::Contents) -> Result<String, ForgeError> {
    let rejected = |why: &str| ask.error(ForgeErrorKind::Rejected, why);
    let wire::Contents::Entry { kind, size, encoding, content } = contents else {
        return Err(rejected("it is a directory: replace it by a file"));
    };
    if kind != "file" {
        return Err(rejected(&format!("it is a {kind}: replace it by a file")));
    }
    if size.is_some_and(|size| size > LARGEST_FILE) {
        return Err(rejected("it is larger than 1 MiB: shorten it"));
    }
    let (Some("base64"), Some(content)) = (encoding.as_deref(), content) else {
        return Err(ask.error(ForgeErrorKind::Garbled, "GitHub sent the file without its content"));
    };
    let packed: String = content.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(packed).map_err(|_| ask.error(ForgeErrorKind::Garbled, "GitHub sent broken base64"))?;
    String::from_utf8(bytes).map_err(|_| rejected("it is not UTF-8 text: save it as UTF-8"))
}
