//! Pods for the three runtimes, around the scripted agent.

use super::env::TestEnv;
use serde_json::{Value, json};
use std::path::PathBuf;

/// A pod's directory in the making.
#[must_use = "a pod is made by `make`"]
pub struct PodBuilder<'e> {
    env: &'e TestEnv,
    name: String,
    dockerfile: Option<String>,
    json: Option<Value>,
    raw_json: Option<String>,
    template: Option<String>,
    fake: Option<Value>,
    agent: bool,
}

impl<'e> PodBuilder<'e> {
    pub(super) fn new(env: &'e TestEnv, name: &str) -> Self {
        Self {
            env,
            name: name.to_owned(),
            dockerfile: Some("FROM scratch\n".to_owned()),
            json: None,
            raw_json: None,
            template: None,
            fake: None,
            agent: false,
        }
    }

    pub(super) fn on_fake(self) -> Self {
        let path = self.env.bin().display().to_string();
        let mut pod = self.json(json!({"runtime": "fake", "env": {"PATH": path}}));
        pod.fake = Some(json!({}));
        pod
    }

    pub(super) fn on_local(self) -> Self {
        let path = self.env.bin().display().to_string();
        self.json(json!({"runtime": "local", "env": {"PATH": path}}))
    }

    /// On an engine; the pod's own name is that of its image.
    pub fn on_docker(mut self) -> Self {
        let shared = self.env.shared().display().to_string();
        self.agent = true;
        self.dockerfile(
            "FROM scratch\nCOPY claude /bin/claude\nCOPY tmp /tmp\nENV PATH=/bin\n\
             WORKDIR /tmp\nENTRYPOINT [\"/bin/claude\"]\n",
        )
        .json(json!({
            "runtime": "docker",
            "network": "none",
            "mounts": [{"source": shared, "target": shared}],
        }))
    }

    /// The agent is any program: plain lines out, the prompt in.
    pub fn plain(self) -> Self {
        self.json(json!({"agent": "command", "entrypoint": ["claude"]}))
    }

    /// The Dockerfile.
    pub fn dockerfile(mut self, text: &str) -> Self {
        self.dockerfile = Some(text.to_owned());
        self
    }

    /// No Dockerfile.
    pub fn no_dockerfile(mut self) -> Self {
        self.dockerfile = None;
        self
    }

    /// Keys of `pod.json`, over those that are there; objects are merged.
    pub fn json(mut self, keys: Value) -> Self {
        let mut merged = self.json.take().unwrap_or_else(|| json!({}));
        merge(&mut merged, keys);
        self.json = Some(merged);
        self
    }

    /// `pod.json` as it is to stand there, right or wrong.
    pub fn raw_json(mut self, text: &str) -> Self {
        self.raw_json = Some(text.to_owned());
        self
    }

    /// `template.md`.
    pub fn template(mut self, text: &str) -> Self {
        self.template = Some(text.to_owned());
        self
    }

    /// `fake.json`: how the scripted engine behaves.
    pub fn fake(mut self, keys: Value) -> Self {
        let mut merged = self.fake.take().unwrap_or_else(|| json!({}));
        merge(&mut merged, keys);
        self.fake = Some(merged);
        self
    }

    /// Writes it, and returns its name.
    #[track_caller]
    pub fn make(self) -> String {
        let dir = self.dir();
        std::fs::create_dir_all(&dir).expect("the home is ours");
        let write = |name: &str, text: &str| {
            std::fs::write(dir.join(name), text).expect("the home is ours");
        };
        if let Some(text) = &self.dockerfile {
            write("Dockerfile", text);
        }
        if let Some(text) = &self.raw_json {
            write("pod.json", text);
        } else if let Some(value) = &self.json {
            write("pod.json", &format!("{value:#}\n"));
        }
        if let Some(text) = &self.template {
            write("template.md", text);
        }
        if let Some(value) = &self.fake {
            write("fake.json", &format!("{value:#}\n"));
        }
        if self.agent {
            std::fs::create_dir_all(dir.join("tmp")).expect("the home is ours");
            let agent = dir.join("claude");
            if !agent.exists() {
                let from = super::scripted_agent();
                std::fs::copy(from, &agent).expect("the scripted agent is built");
            }
        }
        self.name
    }

    /// Where it will lie.
    pub fn dir(&self) -> PathBuf {
        self.env.home().join("pods").join(&self.name)
    }
}

/// Objects are merged, null removes, anything else is replaced.
fn merge(into: &mut Value, keys: Value) {
    match (into, keys) {
        (Value::Object(into), Value::Object(keys)) => {
            for (key, value) in keys {
                if value.is_null() {
                    into.remove(&key);
                    continue;
                }
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, value) => *into = value,
    }
}
