//! The `kagero` program.
fn main() {}
