//! The `keygate` binary.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// Half the price of the system's allocator for the many small pieces of a request (docs/performance.md).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    keygate::cli::run()
}
