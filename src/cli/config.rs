//! `kagero config`: validate, schema, explain.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand, ValueEnum};

use super::{Exit, note, print, print_json, table};
use crate::config::explain::{self, Row};
use crate::config::{ConfigErrors, RenderStyle, load_server, read_text, schema};

/// Check and explain configurations.
#[derive(Debug, Args)]
pub struct ConfigArguments {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Debug, Subcommand)]
enum ConfigCommand {
    /// Find all errors of `kagero.toml` or of a `.kagero.yml`.
    Validate {
        /// The file; a name that ends in .yml or .yaml is a repository's. Without one: --config.
        file: Option<PathBuf>,
        /// Errors as JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the JSON Schema of a configuration.
    Schema {
        /// Which configuration.
        #[arg(value_enum, default_value_t = Which::Repo)]
        which: Which,
    },
    /// Print every setting with its value and where it comes from.
    Explain {
        /// The file; a name that ends in .yml or .yaml is a repository's. Without one: --config.
        file: Option<PathBuf>,
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// `kagero.toml`.
    Server,
    /// `.kagero.yml`.
    Repo,
}

/// Runs one of them.
pub fn run(config: &Path, arguments: ConfigArguments) -> anyhow::Result<Exit> {
    match arguments.command {
        ConfigCommand::Validate { file, json } => validate(file.as_deref().unwrap_or(config), json),
        ConfigCommand::Schema { which } => {
            print_json(&match which {
                Which::Server => schema::server(),
                Which::Repo => schema::repo(),
            })?;
            Ok(Exit::Ok)
        }
        ConfigCommand::Explain { file, json } => explain(file.as_deref().unwrap_or(config), json),
    }
}

fn is_of_repository(file: &Path) -> bool {
    file.extension().is_some_and(|extension| extension == "yml" || extension == "yaml")
}

fn report(errors: &ConfigErrors, json: bool) -> anyhow::Result<Exit> {
    if json {
        print_json(&errors.to_json())?;
    } else {
        note(&errors.render(RenderStyle::Terminal));
    }
    Ok(Exit::Config)
}

fn validate(file: &Path, json: bool) -> anyhow::Result<Exit> {
    let name = file.display().to_string();
    let checked = if is_of_repository(file) {
        read_text(file).and_then(|text| crate::config::repo::parse_repo(&name, &text).map(drop))
    } else {
        load_server(file).map(|server| server.warnings.iter().for_each(|warning| note(&format!("warning: {warning}"))))
    };
    match checked {
        Ok(()) => {
            if json {
                print_json(&serde_json::json!({"file": name, "count": 0, "errors": []}))?;
            } else {
                print(&format!("{name}: valid"))?;
            }
            Ok(Exit::Ok)
        }
        Err(errors) => report(&errors, json),
    }
}

fn explain(file: &Path, json: bool) -> anyhow::Result<Exit> {
    let name = file.display().to_string();
    let rows: Vec<Row> = if is_of_repository(file) {
        let text = match read_text(file) {
            Ok(text) => text,
            Err(errors) => return report(&errors, json),
        };
        match explain::repo(Some(&text), Some(&text), &name, &name) {
            Ok(rows) => rows,
            Err(errors) => return report(&errors, json),
        }
    } else {
        match load_server(file) {
            Ok(server) => explain::server(&server).to_vec(),
            Err(errors) => return report(&errors, json),
        }
    };
    if json {
        print_json(&rows)?;
        return Ok(Exit::Ok);
    }
    let cells: Vec<Vec<String>> =
        rows.iter().map(|row| vec![row.key.clone(), row.value.clone(), row.source.to_string()]).collect();
    print(&table(&["KEY", "VALUE", "FROM"], &cells))?;
    Ok(Exit::Ok)
}
