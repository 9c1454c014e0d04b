//! What nobody needs any more: found, told, and only then removed.
//!
//! [`plan`] is a function of what there is, so what is told is what goes. All that
//! a session may be resumed with stays, and what is not known to be ours.

use super::cleanup::{self, entries, is_needed, is_old};
use super::handle::{Handle, blocking, detached};
use crate::model::api::{GcItem, GcKind, GcReport};
use crate::model::{Error, Result, RuntimeName, SessionRecord, Timestamp, Ulid};
use crate::runtime::{Belonging, Belongs, PlaceState};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::path::PathBuf;

/// What there is.
#[derive(Default)]
struct Stock {
    records: HashMap<Ulid, SessionRecord>,
    /// Sessions whose records cannot be read: nothing is known of what they need.
    damaged: HashSet<Ulid>,
    /// The images of sessions that still have something.
    in_use: HashMap<Ulid, String>,
    /// Pods by name, with their images' names; none where that cannot be read.
    pods: BTreeMap<String, Option<String>>,
    things: Vec<(RuntimeName, Belonging)>,
    /// Old directories with something in them.
    dirs: Vec<(Ulid, PathBuf)>,
    unseen: Vec<String>,
}

/// One thing that is to go.
struct Due {
    item: GcItem,
    target: Target,
}

enum Target {
    Session(Ulid),
    Thing(RuntimeName, Box<Belonging>),
    Dir(PathBuf),
}

impl Handle {
    /// What nobody needs any more. Removes nothing.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn gc_plan(&self) -> Result<GcReport> {
        let _turn = self.cleanups.lock().await;
        let stock = self.stock().await?;
        let items = plan(&stock, Timestamp::now()).into_iter();
        Ok(GcReport {
            items: items.map(|due| due.item).collect(),
            unseen: stock.unseen,
        })
    }

    /// Removes it. What cannot be removed is told with the reason. Goes on if the
    /// caller leaves.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub async fn gc(&self) -> Result<GcReport> {
        let this = self.clone();
        detached(async move { this.gc_now().await }).await
    }

    async fn gc_now(&self) -> Result<GcReport> {
        let _turn = self.cleanups.lock().await;
        let stock = self.stock().await?;
        let mut items = Vec::new();
        for Due { mut item, target } in plan(&stock, Timestamp::now()) {
            item.left = self.remove_due(target).await.err().map(|e| e.to_string());
            items.push(item);
        }
        Ok(GcReport {
            items,
            unseen: stock.unseen,
        })
    }

    async fn remove_due(&self, target: Target) -> Result<()> {
        match target {
            Target::Session(ulid) => match self.remove_things(ulid).await? {
                None => Ok(()),
                Some(left) => Err(Error::new(crate::model::ErrorCode::Internal, left)),
            },
            Target::Thing(name, thing) => {
                if let Belongs::Container(found) = &thing.what
                    && let Some(record) = self.shared.reader.session(found.owner.session)?
                    && is_needed(&record, found)
                {
                    // It was resumed meanwhile.
                    return Ok(());
                }
                Ok(self.shared.runtime(name)?.discard(&thing).await?)
            }
            Target::Dir(path) => {
                let runtime = self.shared.runtime(RuntimeName::Docker)?;
                Ok(runtime.purge(&path).await?)
            }
        }
    }

    async fn stock(&self) -> Result<Stock> {
        let mut stock = Stock::default();
        let mut failed = Vec::new();
        // Things first: the session of what is there is recorded by now.
        for name in [RuntimeName::Docker, RuntimeName::Local, RuntimeName::Fake] {
            match self
                .shared
                .runtime(name)?
                .belongings(self.shared.home)
                .await
            {
                Ok(things) => stock
                    .things
                    .extend(things.into_iter().map(|one| (name, one))),
                Err(error) => failed.push((name, error)),
            }
        }
        let shared = self.shared.clone();
        let mut stock = blocking(move || {
            for (ulid, path) in entries(&shared.sessions) {
                let empty = || entries(&path).is_empty();
                if let Ok(ulid) = ulid.parse()
                    && is_old(&path)
                    && !empty()
                {
                    stock.dirs.push((ulid, path));
                }
            }
            for listed in shared.pods.list().map_err(Error::from)? {
                let (name, pod) = listed;
                stock.pods.insert(name, pod.ok().map(|pod| pod.spec.image));
            }
            for record in shared.reader.sessions() {
                let record = match record {
                    Ok(record) => record,
                    Err(error) => match error.damaged_session() {
                        Some(session) => {
                            stock.damaged.insert(session);
                            continue;
                        }
                        None => return Err(error.into()),
                    },
                };
                if record.removed != Some(true)
                    && let Some(image) = cleanup::spec_image(&shared, &record)
                {
                    stock.in_use.insert(record.ulid, image);
                }
                stock.records.insert(record.ulid, record);
            }
            Ok(stock)
        })
        .await?;
        // Of a runtime that nobody has used, nothing is missed.
        failed.retain(|(name, _)| stock.records.values().any(|one| one.runtime == *name));
        let unseen = failed.iter().map(|(_, error)| error.to_string());
        stock.unseen = unseen.collect();
        Ok(stock)
    }
}

/// What nobody needs, in the order in which it can go.
fn plan(stock: &Stock, now: Timestamp) -> Vec<Due> {
    let mut all = Vec::new();
    let mut push = |kind, name: &str, why: &str, target| {
        let item = GcItem {
            kind,
            name: name.to_owned(),
            why: why.to_owned(),
            left: None,
        };
        all.push(Due { item, target });
    };
    let due: HashSet<Ulid> = stock
        .records
        .values()
        .filter(|record| cleanup::due(record, now))
        .map(|record| record.ulid)
        .collect();
    for ulid in due.iter().collect::<BTreeSet<_>>() {
        let record = &stock.records[ulid];
        let why = match record.removed {
            Some(_) => "its removal was not finished",
            None => "its pod's `keep` is over",
        };
        push(
            GcKind::Session,
            record.id.as_str(),
            why,
            Target::Session(*ulid),
        );
    }
    let is_unknown =
        |ulid: &Ulid| !stock.records.contains_key(ulid) && !stock.damaged.contains(ulid);
    let mut going: HashSet<&str> = HashSet::new();
    let mut images = Vec::new();
    for (runtime, thing) in &stock.things {
        let target = || Target::Thing(*runtime, Box::new(thing.clone()));
        match &thing.what {
            Belongs::Container(found) => {
                let session = found.owner.session;
                if due.contains(&session) {
                    going.insert(&thing.id);
                    continue;
                }
                let why = match stock.records.get(&session) {
                    // What stands for a container is there once, whoever made it.
                    None if *runtime == RuntimeName::Fake => continue,
                    None if !is_unknown(&session) => continue,
                    None => match found.state {
                        PlaceState::Running { .. } => {
                            "it runs for a session that the journal does not know"
                        }
                        PlaceState::Gone | PlaceState::Created | PlaceState::Exited(_) => {
                            "the journal does not know its session"
                        }
                    },
                    Some(record) => {
                        let is_ours = record.runtime == *runtime && record.imported.is_none();
                        if !is_ours || is_needed(record, found) {
                            continue;
                        }
                        "no run needs it"
                    }
                };
                going.insert(&thing.id);
                push(GcKind::Container, &thing.name, why, target());
            }
            Belongs::Helper => {
                let why = "it helped a daemon that is gone";
                going.insert(&thing.id);
                push(GcKind::Container, &thing.name, why, target());
            }
            Belongs::Helped => {
                let why = "it helped a daemon that is gone";
                images.push((GcKind::Image, why, *runtime, thing));
            }
            Belongs::Volume(session) if is_unknown(session) => {
                let why = "the journal does not know its session";
                push(GcKind::Volume, &thing.name, why, target());
            }
            Belongs::Snapshot(session) if due.contains(session) => {
                going.insert(&thing.id);
            }
            Belongs::Snapshot(session) if is_unknown(session) => {
                let why = "the journal does not know its session";
                images.push((GcKind::Snapshot, why, *runtime, thing));
            }
            Belongs::Image { pod, replaced } => {
                if let Some(why) = unneeded(stock, &due, pod, *replaced, &thing.name) {
                    images.push((GcKind::Image, why, *runtime, thing));
                }
            }
            Belongs::Volume(_) | Belongs::Snapshot(_) => {}
        }
    }
    for (session, path) in &stock.dirs {
        if is_unknown(session) {
            let why = "the journal does not know its session";
            let name = path.display().to_string();
            push(GcKind::Directory, &name, why, Target::Dir(path.clone()));
        }
    }
    // What rests on another image goes before that; what somebody else uses stays.
    loop {
        let free = |thing: &Belonging| thing.users.iter().all(|user| going.contains(user.as_str()));
        let Some(at) = images.iter().position(|(_, _, _, thing)| free(thing)) else {
            return all;
        };
        let (kind, why, runtime, thing) = images.remove(at);
        going.insert(&thing.id);
        let item = GcItem {
            kind,
            name: thing.name.clone(),
            why: why.to_owned(),
            left: None,
        };
        let target = Target::Thing(runtime, Box::new(thing.clone()));
        all.push(Due { item, target });
    }
}

/// Why nobody needs an image that was built for `pod` and is called `name`; none
/// where somebody may.
fn unneeded(
    stock: &Stock,
    due: &HashSet<Ulid>,
    pod: &str,
    replaced: bool,
    name: &str,
) -> Option<&'static str> {
    if replaced {
        return Some("a newer one has replaced it");
    }
    let is_name = |image: &String| {
        let name = name.strip_suffix(":latest").unwrap_or(name);
        // An engine may put its own registry before it.
        name == image || name.ends_with(&format!("/{image}"))
    };
    let mut used = stock
        .in_use
        .iter()
        .filter(|(session, _)| !due.contains(session));
    if used.any(|(_, image)| is_name(image)) {
        return None;
    }
    // The image of any pod, and of one that cannot be read whatever was built for it.
    if stock.pods.values().flatten().any(is_name) || stock.pods.get(pod) == Some(&None) {
        return None;
    }
    match stock.pods.contains_key(pod) {
        true => Some("its pod has another now"),
        false => Some("its pod is gone"),
    }
}
