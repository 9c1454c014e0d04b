//! Events in words, one line each; and how sessions stand.
//!
//! Invariant: only what was recorded is told; nothing is looked up.

use super::time;
use crate::model::api::SessionView;
use crate::model::usage::Usage;
use crate::model::{AgentEvent, Event, EventKind, Outcome, Timestamp, WaitsFor};
use std::time::Duration;

/// What an agent reports of itself. When it runs its own lines are shown instead.
fn of_agent(event: &AgentEvent) -> Option<String> {
    match event {
        AgentEvent::Init { model, .. } => {
            let model = model.as_ref().map(|model| format!(" with {model}"));
            Some(format!("began{}", model.unwrap_or_default()))
        }
        AgentEvent::Result { outcome, text, .. } => {
            let outcome = outcome.name().replace('_', " ");
            let first = text.lines().next().unwrap_or_default();
            let colon = if first.is_empty() { "" } else { ": " };
            Some(format!("{outcome}{colon}{first}"))
        }
        AgentEvent::Limit {
            reached: true,
            name,
            resets,
        } => {
            let until = resets.map(|at| format!(" until {at}"));
            let name = if name.is_empty() {
                ""
            } else {
                &format!(" ({name})")
            };
            Some(format!(
                "its limit{name} is reached{}",
                until.unwrap_or_default()
            ))
        }
        AgentEvent::Heard { .. }
        | AgentEvent::Dropped { .. }
        | AgentEvent::Text { .. }
        | AgentEvent::Thinking { .. }
        | AgentEvent::ToolUse { .. }
        | AgentEvent::ToolResult { .. }
        | AgentEvent::Usage { .. }
        | AgentEvent::Retry { .. }
        | AgentEvent::Limit { .. }
        | AgentEvent::PermissionDenied { .. }
        | AgentEvent::Unknown { .. } => None,
    }
}

/// An image that was built so long ago may hold an old clone, and old tools.
const BUILT_OLD: Duration = Duration::from_secs(7 * 86_400);
/// A pulled one gets old more slowly: its maker decides when there is a newer one.
const PULLED_OLD: Duration = Duration::from_secs(30 * 86_400);

/// The image that is used because it was there: how old it is, and what to do
/// about that.
#[must_use]
pub fn image_there(now: Timestamp, created: Option<Timestamp>, pulled: bool) -> String {
    let Some(created) = created else {
        return "using the image that is there".to_owned();
    };
    let ago = time::ago(now, created);
    let age = now.since(created);
    match pulled {
        false if age >= BUILT_OLD => {
            format!("warning: cached image built {ago}; --build rebuilds it")
        }
        false => format!("using the cached image built {ago}"),
        true if age >= PULLED_OLD => {
            format!("warning: the local image was made {ago}; --pull gets a newer one")
        }
        true => format!("using the local image, made {ago}"),
    }
}

/// An event in words; nothing for one that says nothing to people.
#[must_use]
pub fn describe(event: &Event) -> Option<String> {
    let text = match &event.kind {
        EventKind::Created { spec } => {
            let pod = &spec.pod.name;
            format!("{pod}: dispatched with {} on {}", spec.agent, spec.runtime)
        }
        EventKind::Queued {
            position, reason, ..
        } => {
            let place = position.map(|place| format!(", {} in the queue", time::ordinal(place)));
            let reason = reason.as_ref().map(|reason| format!(": {reason}"));
            if place.is_none() && reason.is_none() {
                return None;
            }
            format!(
                "waiting{}{}",
                place.unwrap_or_default(),
                reason.unwrap_or_default()
            )
        }
        EventKind::Preparing { step } => step.clone(),
        EventKind::BuildStarted { tag, attempt: 1 } => format!("image {tag}"),
        EventKind::BuildStarted { tag, attempt } => format!("image {tag}, attempt {attempt}"),
        EventKind::BuildOutput { line } => line.lossy(),
        EventKind::BuildComplete {
            cached: true,
            created,
            ..
        } => image_there(event.time, *created, false),
        EventKind::BuildComplete { seconds, .. } => format!("image built in {seconds:.1} s"),
        EventKind::Creating { .. } => return None,
        EventKind::Agent { event } => return of_agent(event),
        EventKind::ContainerStarted { container, .. } => format!("started {container}"),
        EventKind::RunStarted { .. } if event.run == 0 => return None,
        EventKind::RunStarted { prompt, .. } => format!("run {}: {prompt}", event.run),
        EventKind::Deferred { why } => format!("run {} waits: {why}", event.run),
        EventKind::Output(output) => String::from_utf8_lossy(&output.data).into_owned(),
        EventKind::Stopping {
            signal,
            deadline,
            by,
            ..
        } => {
            let grace = deadline.since(event.time).as_secs();
            if grace == 0 {
                return Some(format!("killing, asked by {by}"));
            }
            format!("stopping, asked by {by}: {signal} now, SIGKILL in {grace} s")
        }
        EventKind::Signalled { signal, .. } => format!("{signal} sent"),
        EventKind::ContainerExited {
            code, oom_killed, ..
        } => {
            let oom = if *oom_killed { ", out of memory" } else { "" };
            format!("exited with {code}{oom}")
        }
        EventKind::Error { message, .. } => format!("error: {message}"),
        EventKind::RunEnded {
            outcome,
            usage,
            turns,
            ..
        } => {
            let ended = format!("ended: {}", outcome.name().replace('_', " "));
            match spent(usage.as_ref(), *turns) {
                Some(spent) => format!("{ended}, {spent}"),
                None => ended,
            }
        }
        EventKind::Note { message, .. } => format!("note: {message}"),
        EventKind::Removed { complete: true, .. } => "removed".to_owned(),
        EventKind::Removed {
            message: Some(message),
            ..
        } => format!("removed, except: {message}"),
        EventKind::Removed { message: None, .. } => "removing".to_owned(),
    };
    Some(text)
}

/// What a run used, in a few words; nothing where nothing is known.
#[must_use]
pub fn spent(usage: Option<&Usage>, turns: Option<u64>) -> Option<String> {
    let mut parts = Vec::new();
    match turns {
        Some(1) => parts.push("1 turn".to_owned()),
        Some(turns) => parts.push(format!("{turns} turns")),
        None => {}
    }
    if let Some(usage) = usage {
        parts.push(format!("{} tokens", usage.tokens()));
        parts.extend(usage.cost_usd.map(|cost| format!("${cost:.4}")));
    }
    (!parts.is_empty()).then(|| parts.join(", "))
}

/// How a session stands, in a few words.
#[must_use]
pub fn state(session: &SessionView, now: Timestamp) -> String {
    let mut stands = plain_state(session, now);
    if session.state == "running"
        && let Some(limit) = &session.waiting_limit
    {
        stands.push_str(", waits for its limit");
        if let Some(resets) = limit.resets {
            stands.push_str(&format!(" until {resets}"));
        }
    }
    match session.degraded {
        Some(_) => format!("{stands}, degraded"),
        None => stands,
    }
}

fn plain_state(session: &SessionView, now: Timestamp) -> String {
    let state = session.state.as_str();
    match (state, session.position, session.started) {
        ("queued", position, _) => queued(position, session.waits_for.as_ref(), now),
        ("running" | "stopping", _, Some(started)) => {
            format!("{state} {}", time::short(now.since(started)))
        }
        ("ended", ..) => ended(session, now),
        // How it ended is what one comes back for.
        ("removing" | "removed", ..) if session.outcome.is_some() => {
            format!("{}, {state}", ended(session, now))
        }
        _ => state.to_owned(),
    }
}

fn queued(position: Option<u32>, waits_for: Option<&WaitsFor>, now: Timestamp) -> String {
    let why = match waits_for {
        None | Some(WaitsFor::Room { .. }) => None,
        Some(WaitsFor::Retry { at }) => {
            let left = at.since(now).as_secs();
            Some(format!("retry in {left}s"))
        }
        Some(WaitsFor::Pod { .. }) => Some("pod's limit".to_owned()),
        Some(WaitsFor::Memory { .. }) => Some("memory".to_owned()),
        Some(WaitsFor::After { sessions }) => match &sessions[..] {
            [] => None,
            [only] => Some(format!("after {only}")),
            [first, others @ ..] => Some(format!("after {first} and {} more", others.len())),
        },
    };
    let place = position.map(time::ordinal);
    let both: Vec<String> = place.into_iter().chain(why).collect();
    match both.is_empty() {
        true => "queued".to_owned(),
        false => format!("queued ({})", both.join(", ")),
    }
}

fn ended(session: &SessionView, now: Timestamp) -> String {
    let word = match (&session.outcome, session.code) {
        // A process that ended by itself, whether well or not.
        (Some(Outcome::Success), _) | (Some(Outcome::Failed), Some(1..)) => "exited".to_owned(),
        (Some(outcome), _) => outcome.name().replace('_', " "),
        (None, _) => "ended".to_owned(),
    };
    let code = session.code.map(|code| format!(" ({code})"));
    let when = session.ended.map(|at| format!(" {}", time::ago(now, at)));
    format!(
        "{word}{}{}",
        code.unwrap_or_default(),
        when.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_says_how_old_it_is_and_what_to_do() {
        let now = Timestamp(100 * 86_400 * 1_000_000_000);
        let days = |days: i64| Some(Timestamp(now.0 - days * 86_400 * 1_000_000_000));
        for (created, pulled, words) in [
            (None, false, "using the image that is there"),
            (days(3), false, "using the cached image built 3d ago"),
            (
                days(12),
                false,
                "warning: cached image built 12d ago; --build rebuilds it",
            ),
            (days(12), true, "using the local image, made 12d ago"),
            (
                days(31),
                true,
                "warning: the local image was made 31d ago; --pull gets a newer one",
            ),
        ] {
            assert_eq!(image_there(now, created, pulled), words);
        }
    }

    #[test]
    fn what_has_no_line_of_its_own_is_put_into_words() -> Result<(), Box<dyn std::error::Error>> {
        for (kind, words) in [
            (
                serde_json::json!({"kind": "removed", "complete": false}),
                "removing",
            ),
            (
                serde_json::json!({"kind": "removed", "complete": false, "message": "a volume"}),
                "removed, except: a volume",
            ),
            (
                serde_json::json!({"kind": "agent", "event": {"type": "init", "model": "m"}}),
                "began with m",
            ),
            (
                serde_json::json!({"kind": "agent", "event": {"type": "result", "outcome": "max_turns", "text": "one\ntwo"}}),
                "max turns: one",
            ),
        ] {
            let text = kind.to_string();
            let kind = serde_json::from_value(kind).map_err(|e| format!("{text}: {e}"))?;
            assert_eq!(
                describe(&Event {
                    seq: 1,
                    run: 0,
                    time: Timestamp(0),
                    kind,
                })
                .as_deref(),
                Some(words)
            );
        }
        Ok(())
    }

    fn view(fields: serde_json::Value) -> Result<SessionView, serde_json::Error> {
        let mut view = serde_json::json!({
            "id": "p-00000001", "ulid": "00000000000000000000000001", "pod": "p",
            "runtime": "docker", "agent": "claude", "runs": 1, "run": 0,
            "created": "2026-01-01T00:00:00Z", "prompt": "do it",
        });
        if let (Some(view), Some(fields)) = (view.as_object_mut(), fields.as_object()) {
            view.extend(fields.clone());
        }
        serde_json::from_value(view)
    }

    #[test]
    fn states_are_short() -> Result<(), Box<dyn std::error::Error>> {
        let now = Timestamp::parse("2026-01-01T02:04:00Z")?;
        let cases = [
            (
                serde_json::json!({"state": "queued", "position": 3}),
                "queued (3rd)",
            ),
            (
                serde_json::json!({"state": "queued", "position": 3, "waits_for": {"reason": "room", "max": 8}}),
                "queued (3rd)",
            ),
            (
                serde_json::json!({"state": "queued", "position": 1, "waits_for": {"reason": "pod", "max": 1}}),
                "queued (1st, pod's limit)",
            ),
            (
                serde_json::json!({"state": "queued", "position": 2, "waits_for": {"reason": "memory", "claims": 8}}),
                "queued (2nd, memory)",
            ),
            (
                serde_json::json!({"state": "queued", "waits_for": {"reason": "after", "sessions": ["a-1"]}}),
                "queued (after a-1)",
            ),
            (
                serde_json::json!({"state": "queued", "waits_for": {"reason": "after", "sessions": ["a-1", "b-2", "c-3"]}}),
                "queued (after a-1 and 2 more)",
            ),
            (serde_json::json!({"state": "queued"}), "queued"),
            (serde_json::json!({"state": "building"}), "building"),
            (
                serde_json::json!({"state": "running", "started": "2026-01-01T02:00:00Z"}),
                "running 4m",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "success"}, "code": 0, "ended": "2026-01-01T00:00:00Z"}),
                "exited (0) 2h ago",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "failed"}, "code": 7, "ended": "2026-01-01T02:03:50Z"}),
                "exited (7) 10s ago",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "failed"}, "code": 0, "ended": "2026-01-01T02:03:50Z"}),
                "failed (0) 10s ago",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "build_failed"}, "ended": "2026-01-01T02:03:50Z"}),
                "build failed 10s ago",
            ),
            (
                serde_json::json!({"state": "ended", "outcome": {"outcome": "stopped"}, "code": 143, "ended": "2026-01-01T02:03:50Z"}),
                "stopped (143) 10s ago",
            ),
            (serde_json::json!({"state": "removed"}), "removed"),
            (
                serde_json::json!({"state": "removed", "outcome": {"outcome": "failed"}, "code": 7, "ended": "2026-01-01T02:03:50Z"}),
                "exited (7) 10s ago, removed",
            ),
        ];
        for (fields, expected) in cases {
            assert_eq!(state(&view(fields)?, now), expected);
        }
        Ok(())
    }
}
