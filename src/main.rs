//! The `kagero` program: arguments → library → exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    kagero::cli::main()
}
