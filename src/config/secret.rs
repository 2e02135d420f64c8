//! References to secrets, and the secrets themselves once they were read.
//!
//! Guarantees: errors and warnings name the reference, never the value; the value has no `Debug`.

use std::path::{Path, PathBuf};

use secrecy::SecretString;

/// Whether a key, known or not, is one whose value may be a secret.
pub fn is_likely_in(key: &str) -> bool {
    let key = key.to_ascii_lowercase();
    ["secret", "key", "password", "token", "url", "credential"].iter().any(|word| key.contains(word))
}

/// A larger file is no secret.
const MOST_BYTES: u64 = 64 * 1024;

/// Where a secret is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reference {
    /// A file. One line break at its end is not part of the secret.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// AWS Secrets Manager.
    SecretsManager(String),
    /// AWS Systems Manager Parameter Store.
    Ssm(String),
}

impl Reference {
    /// Reads `file:…`, `env:…`, `secretsmanager:…` or `ssm:…`.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once(':')?;
        if rest.is_empty() || rest.starts_with(' ') {
            return None;
        }
        match scheme {
            "file" => Some(Self::File(PathBuf::from(rest.strip_prefix("//").unwrap_or(rest)))),
            "env" if rest.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') => Some(Self::Env(rest.to_owned())),
            "secretsmanager" => Some(Self::SecretsManager(rest.to_owned())),
            "ssm" => Some(Self::Ssm(rest.to_owned())),
            _ => None,
        }
    }
}

/// A secret that was read, together with where it came from.
#[derive(Debug, Clone)]
pub struct Secret {
    /// As written in the file: for people.
    pub reference: String,
    /// The secret.
    pub value: SecretString,
}

/// What surrounds the file: where relative paths begin, and the environment's variables.
#[derive(Clone, Copy)]
pub struct Surroundings<'e> {
    /// The folder of the file.
    pub folder: &'e Path,
    /// Looks an environment variable up.
    pub variable: &'e dyn Fn(&str) -> Option<String>,
}

impl Surroundings<'_> {
    /// The path, made absolute.
    pub fn path(&self, written: &str) -> PathBuf {
        let joined = self.folder.join(written);
        std::path::absolute(&joined).unwrap_or(joined)
    }
}

/// Why a secret cannot be had. The texts do not contain it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be read.
    #[error("the secret file {path} cannot be read: {why}")]
    Unreadable {
        /// The file.
        path: String,
        /// The system's reason.
        why: String,
    },
    /// It has no useful content.
    #[error("the secret {0} is empty, not text, or larger than 64 KiB")]
    Useless(String),
    /// The variable is not set.
    #[error("the environment variable {0} is not set")]
    Unset(String),
    /// It is kept where this version cannot read.
    #[error("{0} secrets are not available in this build yet")]
    NotYet(&'static str),
}

impl SecretError {
    /// What to do about it.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Unreadable { .. } => {
                "make the file readable for the account that Kagero runs as, and for nobody else"
            }
            Self::Useless(_) => "put the secret there, as text",
            Self::Unset(_) => "set it in the environment of the Kagero process",
            Self::NotYet(_) => "use file:<path> or env:<NAME>",
        }
    }
}

/// Reads a secret. The second value is a warning for the operator.
pub fn resolve(written: &str, around: Surroundings<'_>) -> Result<(Secret, Option<String>), SecretError> {
    let Some(reference) = Reference::parse(written) else {
        return Err(SecretError::Useless("that is written there".to_owned()));
    };
    let (value, warning) = match reference {
        Reference::File(path) => read_file(&around.path(&path.to_string_lossy()))?,
        Reference::Env(name) => match (around.variable)(&name) {
            Some(value) if !value.is_empty() => (value, None),
            Some(_) => return Err(SecretError::Useless(written.to_owned())),
            None => return Err(SecretError::Unset(name)),
        },
        Reference::SecretsManager(_) => return Err(SecretError::NotYet("secretsmanager:")),
        Reference::Ssm(_) => return Err(SecretError::NotYet("ssm:")),
    };
    Ok((Secret { reference: written.to_owned(), value: SecretString::from(value) }, warning))
}

fn read_file(path: &Path) -> Result<(String, Option<String>), SecretError> {
    use std::io::Read as _;
    use std::os::unix::fs::PermissionsExt as _;

    let unreadable =
        |error: std::io::Error| SecretError::Unreadable { path: path.display().to_string(), why: error.to_string() };
    let useless = || SecretError::Useless(format!("file:{}", path.display()));
    // A named pipe would hold the start up for ever.
    let meta = std::fs::metadata(path).map_err(unreadable)?;
    if !meta.is_file() {
        return Err(useless());
    }
    let mut bytes = Vec::new();
    let file = std::fs::File::open(path).map_err(unreadable)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MOST_BYTES {
        return Err(useless());
    }
    let mut value = String::from_utf8(bytes).map_err(|_| useless())?;
    if value.ends_with('\n') {
        value.pop();
        if value.ends_with('\r') {
            value.pop();
        }
    }
    if value.trim().is_empty() {
        return Err(useless());
    }
    let mode = meta.permissions().mode() & 0o777;
    let warning = (mode & 0o007 != 0).then(|| {
        let path = path.display();
        format!("the secret file {path} can be read by others (mode {mode:o}): run chmod o= {path}")
    });
    Ok((value, warning))
}
