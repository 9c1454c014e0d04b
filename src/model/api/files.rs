//! Files of a session: what they are, and where archives of them go.

use crate::model::time::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is at a path of a session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PathStat {
    /// The whole path.
    pub path: String,
    /// What it is; a link is not followed.
    pub kind: PathKind,
    /// Bytes.
    pub size: u64,
    /// Permissions.
    pub mode: u32,
    /// When it was changed last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modified: Option<Timestamp>,
    /// Where a link leads in the end, as an absolute path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub link_target: Option<String>,
}

/// What something in a file system is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PathKind {
    /// A file.
    File,
    /// A directory.
    Directory,
    /// A symbolic link.
    Link,
    /// A socket, a device and the like.
    Other,
}

/// Which file or directory of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PathQuery {
    /// The path; what is not absolute lies in the session's working directory.
    pub path: String,
}

/// Where an archive is taken apart in a session.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct UploadQuery {
    /// A directory that is there; what is not absolute lies in the session's working directory.
    pub path: String,
    /// What is in it keeps its owners, and does not belong to the session's user.
    #[serde(default)]
    pub keep_owners: bool,
}
