//! What is asked for: sessions, and further runs of them.

use crate::model::api::{ResumeHow, ResumeRequest, StartRequest, Task};
use crate::model::{AgentKind, Blob, Bounds, RuntimeName, Ulid};
use std::collections::BTreeMap;
use std::time::Duration;

/// What to dispatch.
#[derive(Clone, Debug)]
pub struct Dispatch {
    pub(super) request: StartRequest,
}

impl Dispatch {
    /// One session of `pod`, told `prompt`.
    #[must_use]
    pub fn prompt(pod: &str, prompt: impl Into<Vec<u8>>) -> Self {
        Self::new(pod, Task::Prompt(Blob(prompt.into())))
    }

    /// One session of `pod`, told to work on a GitHub issue.
    #[must_use]
    pub fn issue(pod: &str, url: &str) -> Self {
        Self::new(pod, Task::Issue(url.to_owned()))
    }

    /// So many sessions at once.
    #[must_use]
    pub fn count(mut self, count: u32) -> Self {
        self.request.count = count;
        self
    }

    /// A name for the session, to find it by.
    #[must_use]
    pub fn name(mut self, name: &str) -> Self {
        self.request.name = Some(name.to_owned());
        self
    }

    /// Which model; the pod's, or the agent's own, otherwise.
    #[must_use]
    pub fn model(mut self, model: &str) -> Self {
        self.request.model = Some(model.to_owned());
        self
    }

    /// The container goes with the run's end; it cannot be resumed then.
    #[must_use]
    pub const fn remove(mut self) -> Self {
        self.request.remove = true;
        self
    }

    /// A variable for the agent. Its value is never recorded.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.request.env.insert(name.to_owned(), value.to_owned());
        self
    }

    /// Where to run.
    #[must_use]
    pub const fn runtime(mut self, runtime: RuntimeName) -> Self {
        self.request.runtime = Some(runtime);
        self
    }

    /// Which agent.
    #[must_use]
    pub const fn agent(mut self, agent: AgentKind) -> Self {
        self.request.agent = Some(agent);
        self
    }

    /// Stops each run that takes longer. Whole seconds, at least one.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        let seconds = u32::try_from(limit.as_secs()).unwrap_or(u32::MAX);
        self.request.timeout = Some(seconds.max(1));
        self
    }

    /// How far its agent may go; the pod's where nothing is said.
    #[must_use]
    pub const fn bounds(mut self, bounds: Bounds) -> Self {
        self.request.bounds = bounds;
        self
    }

    /// Leaves the queue before those of a lower priority; 0 is usual.
    #[must_use]
    pub const fn priority(mut self, priority: i32) -> Self {
        self.request.priority = priority;
        self
    }

    /// Begins only when this session (an id, a name, ...) has succeeded, and those
    /// named before; never, if one of them ends otherwise.
    #[must_use]
    pub fn after(mut self, session: &str) -> Self {
        self.request.after.push(session.to_owned());
        self
    }

    /// A label.
    #[must_use]
    pub fn label(mut self, key: &str, value: &str) -> Self {
        self.request.labels.insert(key.to_owned(), value.to_owned());
        self
    }

    fn new(pod: &str, task: Task) -> Self {
        let request = StartRequest {
            request: Ulid::nil(),
            pods: vec![pod.to_owned()],
            count: 1,
            task,
            name: None,
            labels: BTreeMap::new(),
            env: BTreeMap::new(),
            inherited: BTreeMap::new(),
            runtime: None,
            agent: None,
            model: None,
            build: false,
            no_cache: false,
            pull: false,
            remove: false,
            timeout: None,
            bounds: Bounds::default(),
            priority: 0,
            after: Vec::new(),
            zone: None,
            proxy: BTreeMap::new(),
        };
        Self { request }
    }
}

/// A further run of a session. A prompt alone makes one, too: `"Go on.".into()`.
#[derive(Clone, Debug)]
pub struct Resume {
    pub(super) request: ResumeRequest,
}

impl Resume {
    /// Goes on with the session's conversation, told `prompt`.
    #[must_use]
    pub fn prompt(prompt: impl Into<Vec<u8>>) -> Self {
        let request = ResumeRequest {
            request: Ulid::nil(),
            prompt: Blob(prompt.into()),
            how: ResumeHow::Auto,
            fresh: false,
            fork: false,
            from_fork: None,
            bounds: Bounds::default(),
            env: BTreeMap::new(),
            inherited: BTreeMap::new(),
            proxy: BTreeMap::new(),
        };
        Self { request }
    }

    /// Insists on a way for the prompt to reach the agent.
    #[must_use]
    pub const fn how(mut self, how: ResumeHow) -> Self {
        self.request.how = how;
        self
    }

    /// Begins a new conversation in the same place, where that one is gone.
    #[must_use]
    pub const fn fresh(mut self) -> Self {
        self.request.fresh = true;
        self
    }

    /// Asks on a fork of the conversation: no later run knows what is said in it.
    #[must_use]
    pub const fn fork(mut self) -> Self {
        self.request.fork = true;
        self
    }

    /// Goes on with the fork that run `run` made: that is the conversation from then on.
    #[must_use]
    pub const fn from_fork(mut self, run: u32) -> Self {
        self.request.from_fork = Some(run);
        self
    }

    /// How far the agent may go in this run; the session's where nothing is said.
    #[must_use]
    pub const fn bounds(mut self, bounds: Bounds) -> Self {
        self.request.bounds = bounds;
        self
    }

    /// A variable for the agent. Its value is never recorded.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.request.env.insert(name.to_owned(), value.to_owned());
        self
    }
}

impl From<&str> for Resume {
    fn from(prompt: &str) -> Self {
        Self::prompt(prompt)
    }
}

impl From<String> for Resume {
    fn from(prompt: String) -> Self {
        Self::prompt(prompt)
    }
}

impl From<Vec<u8>> for Resume {
    fn from(prompt: Vec<u8>) -> Self {
        Self::prompt(prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dispatch_says_when_and_how_long() {
        let dispatch = Dispatch::prompt("pod", "do it").priority(3).after("a-1");
        let request = dispatch
            .after("b-2")
            .timeout(Duration::from_millis(90))
            .bounds(Bounds {
                max_turns: Some(9),
                ..Bounds::default()
            })
            .request;
        assert_eq!((request.priority, request.timeout), (3, Some(1)));
        assert_eq!(request.after, ["a-1", "b-2"]);
        assert_eq!(request.bounds.turns(), Some(9));
    }

    #[test]
    fn what_is_printed_has_no_values() {
        let dispatch = Dispatch::prompt("pod", "do it").env("TOKEN", "a secret value");
        let resume = Resume::prompt("go on").env("TOKEN", "a secret value");
        let shown = format!("{dispatch:?} {resume:?}");
        assert_eq!(shown.matches("TOKEN").count(), 2, "{shown}");
        assert!(!shown.contains("a secret value"), "{shown}");
    }
}
