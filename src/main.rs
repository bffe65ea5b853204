//! The `keygate` binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    keygate::cli::run()
}
