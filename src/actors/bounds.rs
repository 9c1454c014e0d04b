//! Whether a session's bounds can be kept, and whether there is anything left of them.

use crate::agent;
use crate::model::retry::RETRIES_MAX;
use crate::model::spec::PodSpec;
use crate::model::{AgentKind, Bounds, Error, ErrorCode, Result, SessionRecord};

/// Checks that a session's bounds can be kept: what an agent does not say nobody
/// can count.
///
/// # Errors
/// `usage`, with what could be done instead.
pub(super) fn check(bounds: Bounds, agent: AgentKind, pod: &PodSpec) -> Result<()> {
    let speaks = agent::spoken(agent, pod);
    let refused = |what: &str, why: &str| {
        let message = format!("{what} of pod {}: {agent} {why}", pod.name);
        Err(Error::new(ErrorCode::Usage, message)
            .hint("--timeout and --idle-timeout hold for every agent"))
    };
    if bounds.retries.is_some_and(|retries| retries > RETRIES_MAX) {
        let message = format!("--retries is at most {RETRIES_MAX}");
        return Err(Error::new(ErrorCode::Usage, message));
    }
    if bounds.cost().is_some() && !agent::prices(speaks) {
        return refused("--max-cost (maxCost)", "does not say what it costs");
    }
    if bounds.turns().is_some() && !agent::reports(speaks) {
        let why = "does not say what it does, so its turns cannot be counted";
        return refused("--max-turns (maxTurns)", why);
    }
    Ok(())
}

/// Checks that a session may cost more than it did in the runs before run `number`.
///
/// # Errors
/// `budget`.
pub(super) fn check_left(own: Bounds, record: &SessionRecord, number: u32) -> Result<()> {
    let Some(limit) = own.over(record.bounds).cost() else {
        return Ok(());
    };
    let spent = record.spent_before(number);
    if !limit.less(spent).is_zero() {
        return Ok(());
    }
    let message = format!("{} may cost {limit}, and ${spent:.4} are spent", record.id);
    Err(Error::new(ErrorCode::Budget, message)
        .hint("`cldpd resume --max-cost` sets what the session may cost in all"))
}
