//! What is to be run, frozen when a session is dispatched.

use super::schema::UlidText;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use super::bounds::Bounds;
use super::ids::{PodName, Ulid};

/// Where sessions run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum RuntimeName {
    /// Containers of a Docker engine.
    Docker,
    /// Plain processes of this machine; isolates nothing.
    Local,
    /// A scripted engine over local processes, for tests.
    Fake,
}

impl fmt::Display for RuntimeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Local => "local",
            Self::Fake => "fake",
        })
    }
}

/// Which agent's command line and output are spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AgentKind {
    /// Claude Code.
    Claude,
    /// OpenAI's Codex.
    Codex,
    /// Google's Gemini CLI.
    Gemini,
    /// opencode.
    Opencode,
    /// Any program: the prompt on standard input, plain lines out.
    Command,
}

impl AgentKind {
    /// All there are.
    pub const ALL: [Self; 5] = [
        Self::Claude,
        Self::Codex,
        Self::Gemini,
        Self::Opencode,
        Self::Command,
    ];

    /// The name, as in JSON.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Claude => "claude",
            Self::Codex => "codex",
            Self::Gemini => "gemini",
            Self::Opencode => "opencode",
            Self::Command => "command",
        }
    }
}

impl fmt::Display for AgentKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What the agent may do without being asked, inside its container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Permissions {
    /// Everything: the container is the fence.
    #[default]
    Bypass,
    /// What the agent's own configuration allows.
    Default,
}

/// A directory or file of the host, or a named volume, in the container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Mount {
    /// Absolute path on the host; `~` and the pod's directory are resolved.
    pub source: PathBuf,
    /// Absolute path in the container.
    pub target: String,
    /// The container may not write.
    pub read_only: bool,
}

/// A session's pod as it was at dispatch. Later changes to the pod's directory
/// change new sessions only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodSpec {
    /// The pod.
    pub name: PodName,
    /// Its directory: the image's build context.
    pub dir: PathBuf,
    /// The image's name, `cldpd-<pod>` unless `pod.json` says otherwise.
    pub image: String,
    /// Whether there is a Dockerfile to build it from.
    pub dockerfile: bool,
    /// `env` without the values that count as secrets.
    #[serde(default)]
    pub env: BTreeMap<String, String>,
    /// Names of `env` whose values count as secrets (their names say key,
    /// token, secret or password) and are not recorded.
    #[serde(default)]
    pub secret_env: Vec<String>,
    /// `inheritEnv`: names whose values come from whoever dispatches.
    #[serde(default)]
    pub inherit_env: Vec<String>,
    /// `buildArgs`. They stand in the image's history and are no place for secrets.
    #[serde(default)]
    pub build_args: BTreeMap<String, String>,
    /// `workdir`; the image's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// `mounts`.
    #[serde(default)]
    pub mounts: Vec<Mount>,
    /// `groupAdd`.
    #[serde(default)]
    pub group_add: Vec<String>,
    /// `extraHosts`, as `name:address`.
    #[serde(default)]
    pub extra_hosts: Vec<String>,
    /// `network`: an engine's network mode, such as `none`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// `labels`, put on the container.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// `entrypoint`: the program of agent kind `command`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entrypoint: Option<Vec<String>>,
    /// `command`: how the program of agent kind `command` is spoken to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<CommandTemplate>,
    /// `args`: further arguments to the agent.
    #[serde(default)]
    pub args: Vec<String>,
    /// `maxParallel`: sessions of this pod at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_parallel: Option<u32>,
    /// `keep`: what is kept of a container after its end.
    #[serde(default)]
    pub keep: Keep,
    /// `user`, as for `docker run`; the image's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// `memory`, in bytes; 0 is unlimited, absent is the default of `config.toml`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<u64>,
    /// `cpus`, in billionths of one; 0 is unlimited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nano_cpus: Option<u64>,
    /// `pids`: processes and threads at once; 0 is unlimited, absent is the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pids: Option<u32>,
    /// `shm`: the size of `/dev/shm` in bytes; the engine's when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shm: Option<u64>,
    /// `copy`: files put into the container before its first start.
    #[serde(default)]
    pub copy: Vec<CopyFile>,
    /// `secrets`: where their values come from; never the values.
    #[serde(default)]
    pub secrets: Vec<SecretSpec>,
}

impl PodSpec {
    /// What a pod's image is called unless `pod.json` says otherwise.
    #[must_use]
    pub fn default_image(name: &PodName) -> String {
        format!("cldpd-{name}")
    }

    /// A pod of which nothing but its name and directory is said.
    #[must_use]
    pub fn bare(name: PodName, dir: PathBuf) -> Self {
        Self {
            image: Self::default_image(&name),
            name,
            dir,
            dockerfile: false,
            env: BTreeMap::new(),
            secret_env: Vec::new(),
            inherit_env: Vec::new(),
            build_args: BTreeMap::new(),
            workdir: None,
            mounts: Vec::new(),
            group_add: Vec::new(),
            extra_hosts: Vec::new(),
            network: None,
            labels: BTreeMap::new(),
            entrypoint: None,
            command: None,
            args: Vec::new(),
            max_parallel: None,
            keep: Keep::default(),
            user: None,
            memory: None,
            nano_cpus: None,
            pids: None,
            shm: None,
            copy: Vec::new(),
            secrets: Vec::new(),
        }
    }
}

impl PodSpec {
    /// Variables of whoever dispatches that `secrets` are read from.
    pub fn secret_variables(&self) -> impl Iterator<Item = &str> {
        self.secrets
            .iter()
            .filter_map(|secret| match &secret.source {
                SecretSource::Env(variable) => Some(variable.as_str()),
                SecretSource::File(_) => None,
            })
    }
}

/// How a program of agent kind `command` is spoken to. Words stand behind the
/// program's own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CommandTemplate {
    /// How it gets its prompt.
    #[serde(default)]
    pub prompt: PromptBy,
    /// Whose output it writes; plain lines when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output: Option<AgentKind>,
    /// Words of a run that begins a conversation; `{session}` is an id that is chosen for it.
    #[serde(default)]
    pub begin: Vec<String>,
    /// Words of a run that goes on with one; `{session}` is its id.
    #[serde(default)]
    pub resume: Vec<String>,
    /// Words where a model is asked for; `{model}` is its name.
    #[serde(default)]
    pub model: Vec<String>,
}

/// How a program gets its prompt.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PromptBy {
    /// On standard input.
    #[default]
    Stdin,
    /// As an argument: `{prompt}`, or the last one.
    Arg,
    /// In a file, whose path is an argument: `{prompt}`, or the last one.
    File,
}

/// A file or directory that is copied into a container before its first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CopyFile {
    /// Absolute path on the host.
    pub source: PathBuf,
    /// Absolute path in the container, or below `~/`, the home of its user.
    pub target: String,
}

/// A value that the agent or the build is to know and nobody else.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct SecretSpec {
    /// Name of the variable, of the file beneath `/run/secrets`, or the build secret's id.
    pub name: String,
    /// Where the value is.
    pub source: SecretSource,
    /// How it is given.
    #[serde(rename = "as")]
    pub kind: SecretKind,
}

/// Where a secret's value is, when something is dispatched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretSource {
    /// In this variable of whoever dispatches.
    Env(String),
    /// In this file of the daemon's machine (absolute).
    File(PathBuf),
}

/// How a secret is given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum SecretKind {
    /// As a variable of the agent.
    #[default]
    Env,
    /// As the file `/run/secrets/<name>`, in memory, for the agent's user alone.
    File,
    /// To the build: `RUN --mount=type=secret,id=<name>`.
    Build,
}

/// What one container may use at most; 0 is unlimited.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Limits {
    /// Bytes of memory (swap included).
    pub memory: u64,
    /// Billionths of a processor.
    pub nano_cpus: u64,
    /// Processes and threads at once.
    pub pids: u32,
    /// Bytes of `/dev/shm`; 0 is the engine's default.
    pub shm: u64,
}

/// How long an ended session's container is kept, so that it can be resumed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Keep {
    /// Removed at once; a resume is refused.
    Never,
    /// Days after the end.
    Days(u32),
    /// Seconds after the end.
    Seconds(u32),
    /// Until it is removed by hand.
    Always,
}

impl Default for Keep {
    fn default() -> Self {
        Self::Days(7)
    }
}

/// What an image says about how it is to be run. Frozen from the first image.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ImageConfig {
    /// ENTRYPOINT and CMD, joined.
    #[serde(default)]
    pub command: Vec<String>,
    /// WORKDIR.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workdir: Option<String>,
    /// USER, empty for root.
    #[serde(default)]
    pub user: String,
}

impl ImageConfig {
    /// The image's user is root.
    #[must_use]
    pub fn is_root(&self) -> bool {
        let user = self.user.split(':').next().unwrap_or_default();
        matches!(user, "" | "0" | "root")
    }
}

/// How the image is come by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct BuildOptions {
    /// Build even if nothing changed.
    #[serde(default)]
    pub force: bool,
    /// Build without the builder's cache.
    #[serde(default)]
    pub no_cache: bool,
    /// Ask the registry for newer base images.
    #[serde(default)]
    pub pull: bool,
}

/// Everything about a session that is fixed at dispatch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Spec {
    /// `--name`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `--label`s.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Where it runs.
    pub runtime: RuntimeName,
    /// Which agent.
    pub agent: AgentKind,
    /// The model that the agent is told to use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// What the agent may do without asking.
    #[serde(default)]
    pub permissions: Permissions,
    /// The agent takes messages while it works.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub steer: bool,
    /// The agent's own session id, where cldpd can choose it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_session: Option<String>,
    /// The pod, frozen.
    pub pod: PodSpec,
    /// How the image is come by.
    #[serde(default)]
    pub build: BuildOptions,
    /// `--rm`: the container goes with the run's end.
    #[serde(default)]
    pub remove: bool,
    /// What its containers may use: the pod's limits, else the defaults at dispatch.
    #[serde(default)]
    pub limits: Limits,
    /// Seconds that a run's program may take, from its start; none is no limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// How far its agent may go.
    #[serde(flatten)]
    pub bounds: Bounds,
    /// Runs of a higher priority leave the queue first.
    #[serde(default)]
    pub priority: i32,
    /// Sessions that have to succeed before the first run leaves the queue.
    #[serde(default)]
    #[schemars(with = "Vec<UlidText>")]
    pub after: Vec<Ulid>,
    /// `TZ` of whoever dispatched, as a name of the zone database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
}

impl Spec {
    /// A session of which nothing but its pod, agent and runtime is said.
    #[must_use]
    pub fn bare(pod: PodSpec, runtime: RuntimeName, agent: AgentKind) -> Self {
        Self {
            name: None,
            labels: BTreeMap::new(),
            runtime,
            agent,
            model: None,
            permissions: Permissions::default(),
            steer: false,
            agent_session: None,
            pod,
            build: BuildOptions::default(),
            remove: false,
            limits: Limits::default(),
            timeout: None,
            bounds: Bounds::default(),
            priority: 0,
            after: Vec::new(),
            zone: None,
        }
    }
}
