//! The command `cldpd`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(cldpd::cli::run(std::env::args_os()))
}
