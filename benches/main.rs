//! `make bench`: measurements that are too long or too noisy for tests. Arguments name the ones to run; none
//! means all.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_precision_loss,
    reason = "a measurement that cannot run must stop, and prints figures for people"
)]

mod burst;
mod database;
mod gateway;
mod preview;
mod rest;
mod scale;
mod simulated;
mod start;
mod webhook;

const MEASUREMENTS: &[(&str, fn())] = &[
    ("start", start::run),
    ("rest", rest::run),
    ("scale", scale::run),
    ("burst", burst::run),
    ("overhead", burst::overhead),
    ("gateway", gateway::run),
    ("webhook", webhook::run),
    ("database", database::run),
    ("preview", preview::run),
];

fn main() {
    // Cargo adds `--bench`.
    let wanted: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    // The webhook's measurement runs its server in a process of its own, comparable to its peer's.
    if let [webhook::SERVER, directory] = wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return webhook::serve(directory);
    }
    if let [rest::CHILD, size] = wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return rest::child(size);
    }
    if let [scale::CHILD, size, changing] = wanted.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return scale::child(size, changing);
    }
    let known: Vec<&str> = MEASUREMENTS.iter().map(|(name, _)| *name).collect();
    if let Some(unknown) = wanted.iter().find(|name| !known.contains(&name.as_str())) {
        eprintln!("there is no measurement {unknown}; there are: {}", known.join(", "));
        std::process::exit(2);
    }
    for (name, measure) in MEASUREMENTS {
        if wanted.is_empty() || wanted.iter().any(|it| it == name) {
            measure();
        }
    }
}
