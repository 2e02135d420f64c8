//! How the shop looks, as the checkout says.

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use minijinja::{Environment, UndefinedBehavior};
use serde::{Deserialize, Serialize};

/// `app/theme.toml`, and the checkout around it.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Theme {
    pub name: String,
    pub heading: String,
    pub tagline: String,
    pub accent: String,
    /// Columns of the order list. Names that the shop does not know are columns of the table `orders`.
    pub columns: Vec<String>,
    #[serde(skip)]
    pub root: PathBuf,
}

/// Columns that are computed; all others are the table's own.
pub const KNOWN: [&str; 6] = ["customer", "city", "status", "items", "total", "placed"];

impl Theme {
    pub fn read(root: &Path) -> anyhow::Result<Self> {
        let path = root.join("app/theme.toml");
        let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
        let mut theme: Self = toml::from_str(&text).with_context(|| format!("{} is not valid", path.display()))?;
        let plain = |name: &String| {
            (1..=40).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
        };
        if let Some(odd) = theme.columns.iter().find(|name| !plain(name)) {
            anyhow::bail!("{}: {odd:?} is not the name of a column", path.display());
        }
        root.clone_into(&mut theme.root);
        Ok(theme)
    }

    /// Columns of the table `orders` that the theme asks for beyond those that every version has.
    pub fn extra_columns(&self) -> impl Iterator<Item = &str> {
        self.columns.iter().map(String::as_str).filter(|name| !KNOWN.contains(name))
    }

    /// The pages of the checkout.
    pub fn pages(&self) -> anyhow::Result<Environment<'static>> {
        let mut pages = Environment::new();
        pages.set_undefined_behavior(UndefinedBehavior::Strict);
        let folder = self.root.join("app/pages");
        for entry in std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            let text = std::fs::read_to_string(&path).with_context(|| format!("{} cannot be read", path.display()))?;
            pages.add_template_owned(name, text).with_context(|| format!("{} is not valid", path.display()))?;
        }
        Ok(pages)
    }
}
