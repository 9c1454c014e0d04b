//! `cldpd man`.

use crate::cli::Context;
use crate::cli::args::Cli;
use crate::cli::error::{Done, Failure, plain, usage};
use crate::model::exit;
use clap::{Command, CommandFactory as _};
use clap_mangen::Man;
use std::io;
use std::path::{Path, PathBuf};

/// Flags of `man`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Without --dir the page of cldpd, or of the command that is named, is printed.

Examples:
  cldpd man | man -l -
  cldpd man start | man -l -
  cldpd man --dir ~/.local/share/man/man1")]
pub struct Args {
    /// Of this command
    #[arg(value_name = "COMMAND", conflicts_with = "dir")]
    command: Vec<String>,
    /// Write all pages into this directory
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) fn run(context: &mut Context, args: &Args) -> Done {
    let mut root = Cli::command();
    root.build();
    if let Some(dir) = &args.dir {
        let unwritable = |e: &io::Error| {
            let dir = dir.display();
            usage(format!("cannot write the pages to {dir}: {}", plain(e)))
        };
        std::fs::create_dir_all(dir).map_err(|e| unwritable(&e))?;
        let count = write_all(&root, dir).map_err(|e| unwritable(&e))?;
        let dir = dir.display();
        context.ui.progress(&format!("{count} pages in {dir}"));
        return Ok(exit::OK);
    }
    let mut command = &root;
    for name in &args.command {
        command = command.find_subcommand(name).ok_or_else(|| {
            usage(format!("there is no page of '{}'", name.escape_debug()))
                .hint("see `cldpd --help`")
        })?;
    }
    let text = page(command).map_err(|e| Failure::Error(usage(plain(&e))))?;
    context.ui.out(&text)?;
    Ok(exit::OK)
}

/// Writes the pages of a command and of all below it; how many.
fn write_all(command: &Command, dir: &Path) -> io::Result<usize> {
    let mut count = 1;
    std::fs::write(
        dir.join(Man::new(command.clone()).get_filename()),
        page(command)?,
    )?;
    for command in command.get_subcommands().filter(|c| !c.is_hide_set()) {
        count += write_all(command, dir)?;
    }
    Ok(count)
}

/// A page, whose last section keeps its lines: they are examples.
fn page(command: &Command) -> io::Result<String> {
    let (mut whole, mut extra) = (Vec::new(), Vec::new());
    let man = Man::new(command.clone()).manual("cldpd");
    man.render(&mut whole)?;
    man.render_extra_section(&mut extra)?;
    let whole = String::from_utf8_lossy(&whole).into_owned();
    let extra = String::from_utf8_lossy(&extra).into_owned();
    let Some((_, lines)) = extra.split_once(".SH EXTRA\n") else {
        return Ok(whole);
    };
    let Some((before, after)) = whole.split_once(".SH EXTRA\n") else {
        return Ok(whole);
    };
    let rest = after.strip_prefix(lines).unwrap_or_default();
    Ok(format!(
        "{before}.SH NOTES AND EXAMPLES\n.nf\n{lines}.fi\n{rest}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_a_page_that_keeps_its_examples() -> io::Result<()> {
        let dir = tempfile::tempdir()?;
        let mut root = Cli::command();
        root.build();
        let count = write_all(&root, dir.path())?;
        let mut names: Vec<String> = std::fs::read_dir(dir.path())?
            .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
            .collect();
        names.sort();
        assert_eq!(names.len(), count);
        for name in [
            "cldpd.1",
            "cldpd-start.1",
            "cldpd-pod-new.1",
            "cldpd-daemon-status.1",
        ] {
            assert!(
                names.iter().any(|known| known == name),
                "{name} in {names:?}"
            );
        }
        let start = std::fs::read_to_string(dir.path().join("cldpd-start.1"))?;
        let (_, notes) = start.split_once(".nf\n").unwrap_or_default();
        assert!(notes.contains("\n  cldpd start"), "{notes}");
        assert!(notes.contains(".fi\n"), "{notes}");
        Ok(())
    }
}
