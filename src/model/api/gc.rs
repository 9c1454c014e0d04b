//! What nobody needs any more.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is left over in a home and its engines.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcReport {
    /// What goes, or went.
    pub items: Vec<GcItem>,
    /// Where could not be looked, and why.
    #[serde(default)]
    pub unseen: Vec<String>,
}

/// One thing that nobody needs any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GcItem {
    /// What it is.
    pub kind: GcKind,
    /// Its name; a session's id.
    pub name: String,
    /// Why nobody needs it.
    pub why: String,
    /// Why it is still there although it was to go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left: Option<String>,
}

/// What can be left over.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum GcKind {
    /// All that an ended session has, but for its history.
    Session,
    /// A container, or what stands for one.
    Container,
    /// An image of a session's container.
    Snapshot,
    /// A pod's image.
    Image,
    /// A volume that a session's image declared.
    Volume,
    /// A session's directory.
    Directory,
}

impl GcKind {
    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Container => "container",
            Self::Snapshot => "snapshot",
            Self::Image => "image",
            Self::Volume => "volume",
            Self::Directory => "directory",
        }
    }
}
