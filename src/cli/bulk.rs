//! Commands that act on many sessions: what they are about to touch is shown,
//! and a person is asked first.

use super::Context;
use super::describe::state;
use super::error::{Failure, usage};
use super::table::Table;
use crate::model::api::SessionView;
use crate::model::{Result, Timestamp};

/// Shows what is about to be done to which sessions, and asks. Returns whether
/// to go on: not when there is nothing to do, or the answer is no.
///
/// # Errors
/// `usage` where nobody can be asked and `yes` was not given.
pub fn agreed(
    context: &mut Context,
    verb: &str,
    targets: &[SessionView],
    yes: bool,
) -> Result<bool, Failure> {
    let count = match targets.len() {
        0 => {
            context.ui.note(&format!("there is nothing to {verb}"));
            return Ok(false);
        }
        1 => "1 session".to_owned(),
        count => format!("{count} sessions"),
    };
    context.ui.progress(&format!("{verb} {count}:"));
    context.ui.progress(listed(targets).trim_end());
    if yes {
        return Ok(true);
    }
    match context.ui.confirm(&format!("{verb} {count}?")) {
        None => Err(usage(format!(
            "this would {verb} {count}, and there is no terminal to ask on"
        ))
        .hint("say --yes to go on without being asked")
        .into()),
        Some(true) => Ok(true),
        Some(false) => {
            context.ui.note("nothing was done");
            Ok(false)
        }
    }
}

fn listed(targets: &[SessionView]) -> String {
    let now = Timestamp::now();
    let mut table = Table::new(&["", "SESSION", "STATE", "PROMPT"]).without_titles(true);
    for session in targets {
        let id = session.id.to_string();
        table.row([
            " ".to_owned(),
            id,
            state(session, now),
            session.prompt.clone(),
        ]);
    }
    table.render(super::table::Look {
        max: Some(100),
        colour: false,
    })
}

/// Says how many failed of how many, when some did.
pub fn conclude(context: &mut Context, what: &str, failed: usize, all: usize) {
    if failed > 0 && all > 1 {
        context
            .ui
            .note(&format!("{failed} of {all} could not be {what}"));
    }
}
