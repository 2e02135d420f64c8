//! `make bench`: measurements that are too long or too noisy for tests. Names select: `cargo bench -- webhook`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot run must stop"
)]

mod database;
mod gateway;
mod start;
mod webhook;

fn main() {
    // Cargo adds `--bench`.
    let names: Vec<String> = std::env::args().skip(1).filter(|name| !name.starts_with("--")).collect();
    if let [webhook::SERVER, directory] = names.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return webhook::serve(directory);
    }
    let selected = |name: &str| names.is_empty() || names.iter().any(|given| given == name);
    if selected("webhook") {
        webhook::run();
    }
}
