//! The labels that say whose an object of the engine is.
//!
//! What does not carry all of them, agreeing, is not ours and is left alone.

use crate::model::ids::PodName;
use crate::model::{SessionId, Ulid};
use crate::runtime::Owner;
use std::collections::HashMap;

pub(super) const HOME: &str = "cldpd.home";
pub(super) const SESSION: &str = "cldpd.session";
pub(super) const POD: &str = "cldpd.pod";
pub(super) const RUN: &str = "cldpd.run";
pub(super) const ATTEMPT: &str = "cldpd.attempt";
/// The container's own name. Labels are inherited through images, so a
/// container that somebody made of a snapshot carries all of the others; its
/// name betrays it.
pub(super) const NAME: &str = "cldpd.name";
/// The digest of the context that an image was built from.
pub(super) const CONTEXT: &str = "cldpd.context";
/// The container that a snapshot was made of.
pub(super) const SNAPSHOT: &str = "cldpd.snapshot";

/// The labels that say whose it is.
pub(super) fn of_owner(owner: &Owner) -> HashMap<String, String> {
    let id = owner.id.as_str();
    let pod = id.rsplit_once('-').map_or(id, |(pod, _)| pod);
    [
        (HOME, owner.home.to_string()),
        (SESSION, owner.session.to_string()),
        (POD, pod.to_owned()),
        (RUN, owner.run.to_string()),
        (ATTEMPT, owner.attempt.to_string()),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value))
    .collect()
}

/// Whose the container `name` is by its labels; `None` when it is not ours.
pub(super) fn owner(labels: &HashMap<String, String>, name: &str) -> Option<Owner> {
    if labels.get(NAME)? != name {
        return None;
    }
    let session = Ulid::from_string(labels.get(SESSION)?).ok()?;
    let pod = PodName::new(labels.get(POD)?).ok()?;
    Some(Owner {
        home: labels.get(HOME)?.parse().ok()?,
        session,
        id: SessionId::new(&pod, session),
        run: labels.get(RUN)?.parse().ok()?,
        attempt: labels.get(ATTEMPT)?.parse().ok()?,
    })
}

/// A filter for all that carries this label. One alone: of several Podman 4
/// lists what carries any of them, or nothing at all, depending on what is
/// listed. The others are looked at with [`carry`].
pub(super) fn filter(key: &str, value: &str) -> HashMap<String, Vec<String>> {
    HashMap::from([("label".to_owned(), vec![format!("{key}={value}")])])
}

/// Whether `labels` have all of `wanted`.
pub(super) fn carry(labels: &HashMap<String, String>, wanted: &[(&str, String)]) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(*key) == Some(value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::HomeId;

    #[test]
    fn labels_name_the_owner_and_are_believed_with_the_name_only() {
        let pod = PodName::new("my-pod").unwrap();
        let session = Ulid(0x1234_5678_9abc_def0);
        let mine = Owner {
            home: HomeId(Ulid(7)),
            session,
            id: SessionId::new(&pod, session),
            run: 3,
            attempt: 1,
        };
        let mut labels = of_owner(&mine);
        assert_eq!(labels.get(POD).map(String::as_str), Some("my-pod"));
        assert_eq!(owner(&labels, "c"), None);
        labels.insert(NAME.to_owned(), "c".to_owned());
        assert_eq!(owner(&labels, "c"), Some(mine));
        assert_eq!(owner(&labels, "other"), None);
        labels.remove(RUN);
        assert_eq!(owner(&labels, "c"), None);
    }
}
