//! `make bench`: measurements that are too long or too noisy for tests.
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
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    if wanted.is_empty() || wanted.iter().any(|name| name == "database") {
        database::run();
    }
}
