//! Pods: what is shown of them, and their builds.

use crate::model::bounds::Bounds;
use crate::model::bytes::Blob;
use crate::model::spec::{AgentKind, PodSpec, RuntimeName};
use crate::model::{Error, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// A pod as `pods` and `pod show` give it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodView {
    /// Its directory's name.
    pub name: String,
    /// Its directory.
    pub dir: String,
    /// The image's tag; none when the pod cannot be read.
    #[serde(default)]
    pub image: Option<String>,
    /// When the image was made; none when there is none or no engine answers.
    #[serde(default)]
    pub built: Option<Timestamp>,
    /// When a session was last dispatched.
    #[serde(default)]
    pub last_used: Option<Timestamp>,
    /// Names of `inheritEnv`.
    #[serde(default)]
    pub inherit_env: Vec<String>,
    /// Variables of whoever dispatches that `secrets` are read from.
    #[serde(default)]
    pub secret_env: Vec<String>,
    /// What is wrong with it.
    #[serde(default)]
    pub problems: Vec<Error>,
    /// What is allowed and worth a thought, such as a mount of the engine's socket.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// Where the directory itself is, when what is in its place is a link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link: Option<String>,
    /// What it says of its containers; none when it cannot be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spec: Option<PodSpec>,
    /// `agent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<AgentKind>,
    /// `model`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// `runtime`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<RuntimeName>,
    /// `timeout`, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
    /// How far its agent may go.
    #[serde(flatten)]
    pub bounds: Bounds,
}

/// Builds a pod's image, without a session.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PodBuildRequest {
    /// Build without the builder's cache.
    #[serde(default)]
    pub no_cache: bool,
    /// Ask the registry for newer base images, or for the image itself.
    #[serde(default)]
    pub pull: bool,
    /// The caller's values of variables that build secrets come from. Never recorded.
    #[serde(default)]
    pub inherited: BTreeMap<String, String>,
    /// The caller's proxy variables. Never recorded.
    #[serde(default)]
    pub proxy: BTreeMap<String, String>,
}

impl fmt::Debug for PodBuildRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PodBuildRequest")
            .field("no_cache", &self.no_cache)
            .field("pull", &self.pull)
            .finish_non_exhaustive()
    }
}

/// What a build of a pod's image says, one a line; the last is not an `output`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum PodBuildEvent {
    /// A line of the builder's.
    Output {
        /// The line.
        line: Blob,
    },
    /// The image is there.
    Complete {
        /// Its id.
        image: String,
        /// How long it took.
        seconds: f64,
        /// Nothing had to be built.
        cached: bool,
        /// When it was made.
        #[serde(default)]
        created: Option<Timestamp>,
    },
    /// It could not be built.
    Failed {
        /// Why.
        error: Error,
    },
}
