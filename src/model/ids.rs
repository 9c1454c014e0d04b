//! Identifiers, and the rules for names that users give.

use super::error::{Error, ErrorCode};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

pub use ulid::Ulid;

/// Longest pod name, in bytes: `cldpd-<pod>` has to be an image name.
pub const POD_NAME_MAX: usize = 63;

/// The name of a pod: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`, at most 63 bytes.
///
/// That is the rule for one component of an image name (the OCI distribution
/// specification), so a pod's name is always usable in its image's tag, and
/// never a path.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PodName(String);

impl PodName {
    /// Checks a name.
    ///
    /// # Errors
    /// `invalid_pod`, with the name and the rule.
    pub fn new(name: &str) -> Result<Self, Error> {
        if is_name_component(name) && name.len() <= POD_NAME_MAX {
            return Ok(Self(name.to_owned()));
        }
        let shown = name.escape_debug().take(80).collect::<String>();
        let hint = if is_name_component(&name.to_lowercase()) && name.len() <= POD_NAME_MAX {
            format!("write it in lower case: {}", name.to_lowercase())
        } else {
            "a pod is named by lower-case letters and digits, with . _ __ or - between them, \
             at most 63 of them"
                .to_owned()
        };
        Err(Error::new(
            ErrorCode::InvalidPod,
            format!("invalid pod name \"{shown}\""),
        )
        .hint(hint))
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name_component(name: &str) -> bool {
    let alnum = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = name.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    if !alnum(*first) || !alnum(*last) {
        return false;
    }
    bytes
        .split(|b| alnum(*b))
        .all(|gap| matches!(gap, b"" | b"." | b"_" | b"__") || gap.iter().all(|b| *b == b'-'))
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for PodName {
    type Error = Error;
    fn try_from(name: String) -> Result<Self, Error> {
        Self::new(&name)
    }
}

impl From<PodName> for String {
    fn from(name: PodName) -> Self {
        name.0
    }
}

/// What people call a session: `<pod>-<8 hex>`, the low 32 bits of its ULID.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(String);

impl SessionId {
    /// The id of the session `ulid` of `pod`.
    #[must_use]
    pub fn new(pod: &PodName, ulid: Ulid) -> Self {
        let low = ulid.0 & 0xffff_ffff;
        Self(format!("{pod}-{low:08x}"))
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The container that runs the session's run number `run`.
    #[must_use]
    pub fn container_name(&self, run: u32) -> String {
        format!("cldpd-{}-r{run}", self.0)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Checks what a user typed to name a session, before anything looks it up:
/// letters, digits and `. _ -`, no `..`, at most 128 bytes.
///
/// # Errors
/// `usage`: "invalid session id".
pub fn check_session_ref(text: &str) -> Result<&str, Error> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if starts_well && text.len() <= 128 && text.chars().all(legal) && !text.contains("..") {
        return Ok(text);
    }
    let shown = text.escape_debug().take(80).collect::<String>();
    Err(
        Error::new(ErrorCode::Usage, format!("invalid session id \"{shown}\""))
            .hint("see `cldpd sessions -a` for the sessions there are"),
    )
}

/// Checks a name that a user gives a session: like [`check_session_ref`].
///
/// # Errors
/// `usage`, naming the rule.
pub fn check_session_name(text: &str) -> Result<(), Error> {
    check_session_ref(text).map(|_| ()).map_err(|_| {
        let shown = text.escape_debug().take(80).collect::<String>();
        Error::new(
            ErrorCode::Usage,
            format!("invalid session name \"{shown}\""),
        )
        .hint("letters, digits, . _ and -, beginning with a letter or digit, at most 128")
    })
}

/// Which home (`$CLDPD_HOME`) something belongs to: made once, with the journal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct HomeId(pub Ulid);

impl fmt::Display for HomeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for HomeId {
    type Err = ulid::DecodeError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ulid::from_string(text).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_follow_the_rule() {
        for good in ["a", "my-repo", "a.b", "a__b", "a_b", "a---b", "0x1"] {
            assert!(PodName::new(good).is_ok(), "{good}");
        }
        let long = "a".repeat(64);
        for bad in [
            "", ".", "..", "../evil", "a/b", "a..b", "a___b", "-a", "a-", "a\0b", "a\nb", "é",
            "MyRepo", "a.-b", &long,
        ] {
            assert!(PodName::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_legal_name_is_one_path_component(name in "\\PC{0,70}") {
            if PodName::new(&name).is_ok() {
                prop_assert!(!name.contains('/') && name != "." && name != "..");
                prop_assert!(check_session_ref(&name).is_ok());
            }
        }

        #[test]
        fn ids_carry_the_low_bits(raw: u128) {
            let pod = PodName::new("pod").map_err(|e| TestCaseError::fail(e.to_string()))?;
            let id = SessionId::new(&pod, Ulid(raw));
            prop_assert_eq!(id.as_str().len(), "pod-".len() + 8);
            prop_assert!(check_session_ref(id.as_str()).is_ok());
        }
    }
}
