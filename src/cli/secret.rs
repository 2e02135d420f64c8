//! The installation's secret: 32 random bytes in the state directory, from which every other secret of
//! Kagero's own is computed.

use std::io::Write as _;
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::{Context as _, bail};
use ed25519_dalek::SigningKey;
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::SecretString;
use sha2::Sha256;

const FILE: &str = "secret";

/// The installation's secret. No `Debug`, so that it cannot be logged.
pub struct InstallSecret([u8; 32]);

impl InstallSecret {
    /// Reads the secret, making one on the first start.
    pub fn load(state_dir: &Path) -> anyhow::Result<Self> {
        let path = state_dir.join(FILE);
        if !path.exists() {
            let mut made = tempfile::Builder::new()
                .permissions(std::fs::Permissions::from_mode(0o600))
                .tempfile_in(state_dir)
                .with_context(|| format!("{} cannot be written", path.display()))?;
            made.write_all(hex::encode(rand::random::<[u8; 32]>()).as_bytes())?;
            made.as_file().sync_all()?;
            // Two first starts at once must agree on one secret.
            match made.persist_noclobber(&path) {
                Ok(_) => {}
                Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error.error).with_context(|| format!("{} cannot be written", path.display())),
            }
        }
        let file = std::fs::OpenOptions::new().read(true).mode(0o600).open(&path);
        let text =
            file.and_then(std::io::read_to_string).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut bytes = [0; 32];
        if hex::decode_to_slice(text.trim(), &mut bytes).is_err() {
            bail!(
                "{} is not the 64 hexadecimal digits that Kagero wrote; restore it from a backup: \
                 running environments cannot be reached without it",
                path.display()
            );
        }
        Ok(Self(bytes))
    }

    /// Whether there is one.
    pub fn exists(state_dir: &Path) -> bool {
        state_dir.join(FILE).exists()
    }

    /// The key that requests to agents are signed with.
    pub fn signing_key(&self) -> SigningKey {
        SigningKey::from_bytes(&self.derive("agent requests"))
    }

    /// What the passwords of database roles are computed from.
    pub fn for_roles(&self) -> SecretString {
        SecretString::from(hex::encode(self.derive("database roles")))
    }

    /// Tells this secret from another one, and gives nothing of it away.
    pub fn digest(&self) -> String {
        hex::encode(self.derive("digest"))
    }

    fn derive(&self, purpose: &str) -> [u8; 32] {
        let mut derived = [0; 32];
        if let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(&self.0) {
            mac.update(purpose.as_bytes());
            derived = mac.finalize().into_bytes().into();
        }
        derived
    }
}
