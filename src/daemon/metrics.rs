//! `GET /metrics`: the daemon in numbers, in Prometheus' text format 0.0.4.

use super::endpoint::Endpoint;
use super::respond::Failure;
use super::routes::daemon::describe;
use super::server::{Context, VERSION};
use crate::actors::{COMMIT_BOUNDS, Measures};
use crate::model::api::DaemonStatus;
use crate::model::{ErrorCode, Outcome, Timestamp};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse as _, Response};
use std::fmt::{Display, Write as _};
use std::fs;

/// Its path.
pub(super) const PATH: &str = "/metrics";
const FORMAT: &str = "text/plain; version=0.0.4; charset=utf-8";
/// States that are always shown, so that a graph of one does not begin with its first session.
const STATES: [&str; 6] = [
    "queued",
    "preparing",
    "building",
    "starting",
    "running",
    "stopping",
];
/// Ticks a second of the times in `/proc`: fixed in Linux' interface.
const TICKS: f64 = 100.0;

pub(super) fn endpoint() -> Endpoint {
    Endpoint::get(PATH, "metrics", serve)
        .says("The daemon in numbers, in Prometheus' text format 0.0.4.")
        .text("text/plain")
        .fails(&[ErrorCode::Stopping])
}

async fn serve(State(context): State<Context>) -> Result<Response, Failure> {
    let status = describe(&context).await?;
    let measures = context.handle.measures().await?;
    let page = page(&status, &measures);
    Ok(([(header::CONTENT_TYPE, FORMAT)], page).into_response())
}

/// An exposition in the making.
#[derive(Default)]
struct Page(String);

impl Page {
    /// Begins a family of samples.
    fn family(&mut self, name: &str, kind: &str, help: &str) {
        // Writing to memory does not fail.
        let _ = writeln!(self.0, "# HELP {name} {help}\n# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: impl Display) {
        self.0.push_str(name);
        for (nth, (label, text)) in labels.iter().enumerate() {
            let begin = if nth == 0 { '{' } else { ',' };
            let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
            let escaped = escaped.replace('\n', "\\n");
            let _ = write!(self.0, "{begin}{label}=\"{escaped}\"");
        }
        let end = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.0, "{end} {value}");
    }

    /// A family of one sample.
    fn one(&mut self, name: &str, kind: &str, help: &str, value: impl Display) {
        self.family(name, kind, help);
        self.sample(name, &[], value);
    }
}

fn page(status: &DaemonStatus, measures: &Measures) -> String {
    let mut page = Page::default();
    page.family("cldpd_build_info", "gauge", "Always 1.");
    page.sample("cldpd_build_info", &[("version", VERSION)], 1);
    page.one(
        "cldpd_start_time_seconds",
        "gauge",
        "When the daemon began to serve, in seconds since 1970.",
        seconds(status.since),
    );
    sessions(&mut page, measures);
    page.one(
        "cldpd_queue_length",
        "gauge",
        "Runs that wait.",
        status.queued,
    );
    page.one(
        "cldpd_runs_live",
        "gauge",
        "Runs that were let go and are not over.",
        status.live,
    );
    page.one(
        "cldpd_runs_live_limit",
        "gauge",
        "At most so many at once.",
        status.max_parallel,
    );
    page.one(
        "cldpd_runs_adopted",
        "gauge",
        "Runs that were under way when the daemon started.",
        status.adopted,
    );
    page.one(
        "cldpd_memory_claimed_bytes",
        "gauge",
        "Memory that live runs claim by their limits.",
        status.memory_claimed,
    );
    page.one(
        "cldpd_memory_limit_bytes",
        "gauge",
        "Memory that they may claim together.",
        status.memory,
    );
    journal(&mut page, measures);
    page.family(
        "cldpd_followers",
        "gauge",
        "Open streams of events, and waits for an end.",
    );
    let of_one = measures.session_followers;
    page.sample("cldpd_followers", &[("of", "session")], of_one);
    page.sample(
        "cldpd_followers",
        &[("of", "all")],
        measures.firehose_followers,
    );
    page.one(
        "cldpd_engine_up",
        "gauge",
        "1 if the Docker engine answers, else 0.",
        u8::from(measures.engine),
    );
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    let about = "Tasks of the daemon that have not ended.";
    page.one("cldpd_tasks", "gauge", about, tasks);
    process(&mut page);
    page.0
}

fn sessions(page: &mut Page, measures: &Measures) {
    let count = |state: &str| -> u64 {
        let of_state = measures.sessions.iter().filter(|(s, ..)| *s == state);
        of_state.map(|(.., count)| count).sum()
    };
    page.family(
        "cldpd_sessions",
        "gauge",
        "Sessions in the journal, by state.",
    );
    for state in STATES.into_iter().chain(["ended", "removing", "removed"]) {
        page.sample("cldpd_sessions", &[("state", state)], count(state));
    }
    page.family(
        "cldpd_sessions_over",
        "gauge",
        "Sessions in the journal without a live run, by the outcome of the last one.",
    );
    for name in Outcome::NAMES {
        let with = measures
            .sessions
            .iter()
            .filter(|(_, o, _)| *o == Some(name));
        let count: u64 = with.map(|(.., count)| count).sum();
        page.sample("cldpd_sessions_over", &[("outcome", name)], count);
    }
    page.family(
        "cldpd_runs_ended_total",
        "counter",
        "Runs that ended since the daemon started, by outcome.",
    );
    for (name, count) in &measures.counted.run_ends {
        page.sample("cldpd_runs_ended_total", &[("outcome", name)], count);
    }
}

fn journal(page: &mut Page, measures: &Measures) {
    let counted = &measures.counted;
    page.one(
        "cldpd_events_total",
        "counter",
        "Events recorded since the daemon started.",
        counted.events,
    );
    page.one(
        "cldpd_output_bytes_total",
        "counter",
        "Bytes of agents' output recorded since the daemon started.",
        counted.output_bytes,
    );
    let name = "cldpd_journal_commit_seconds";
    page.family(
        name,
        "histogram",
        "How long commits took until they were durable.",
    );
    let mut so_far = 0;
    let bounds = COMMIT_BOUNDS.iter().map(ToString::to_string);
    for (bound, count) in bounds.chain(["+Inf".to_owned()]).zip(&counted.commits) {
        so_far += count;
        page.sample(&format!("{name}_bucket"), &[("le", &bound)], so_far);
    }
    let sum = counted.commit_time.as_secs_f64();
    page.sample(&format!("{name}_sum"), &[], sum);
    page.sample(&format!("{name}_count"), &[], so_far);
    page.one(
        "cldpd_journal_commits_failed_total",
        "counter",
        "Commits that failed since the daemon started.",
        counted.commits_failed,
    );
    page.one(
        "cldpd_journal_size_bytes",
        "gauge",
        "Bytes of the journal's files.",
        measures.journal_bytes,
    );
}

/// The usual numbers of a process; those that `/proc` does not say are left out.
fn process(page: &mut Page) {
    let read = |name: &str| fs::read_to_string(format!("/proc/self/{name}")).unwrap_or_default();
    let stat = read("stat");
    // The second field is the program's name and may hold anything.
    let fields: Vec<&str> = stat
        .rsplit_once(')')
        .map(|(_, rest)| rest.split_whitespace().collect())
        .unwrap_or_default();
    // Numbered from 3 in proc(5).
    let field = |number: usize| {
        fields
            .get(number - 3)
            .and_then(|text| text.parse::<f64>().ok())
    };
    if let (Some(user), Some(system)) = (field(14), field(15)) {
        page.one(
            "process_cpu_seconds_total",
            "counter",
            "Processor time, in seconds.",
            (user + system) / TICKS,
        );
    }
    let status = read("status");
    for (key, name, help) in [
        (
            "VmRSS:",
            "process_resident_memory_bytes",
            "Resident memory.",
        ),
        ("VmSize:", "process_virtual_memory_bytes", "Virtual memory."),
    ] {
        let line = status.lines().find_map(|line| line.strip_prefix(key));
        let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB"));
        if let Some(kib) = kib.and_then(|kib| kib.trim().parse::<u64>().ok()) {
            page.one(name, "gauge", help, kib * 1024);
        }
    }
    if let Ok(open) = fs::read_dir("/proc/self/fd") {
        page.one(
            "process_open_fds",
            "gauge",
            "Open file descriptors.",
            open.count(),
        );
    }
    let limits = read("limits");
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|rest| rest.split_whitespace().next());
    if let Some(soft) = soft.and_then(|soft| soft.parse::<u64>().ok()) {
        page.one("process_max_fds", "gauge", "At most so many at once.", soft);
    }
}

fn seconds(time: Timestamp) -> f64 {
    time.0 as f64 / 1e9
}
