//! From the intent to a container whose shim has the run.
//!
//! Every call to the engine may be repeated: what an earlier daemon did is found
//! by its labels. The run itself has an id that depends on session, run and
//! attempt only, so a shim that has it already says so and runs nothing twice.

mod told;

pub(super) use told::{has_taken, was_told};

use super::bounds;
use super::capture::Attached;
use super::driver::{self, Driver, ENGINE_RETRY, Over};
use super::environment;
use super::order::{run_body, run_id, values};
use super::proxy;
use crate::model::run::{Phase, Place};
use crate::model::spec::ImageConfig;
use crate::model::{
    Blob, Error, ErrorCode, EventKind, How, RunRecord, RunState, RuntimeName, SessionRecord,
};
use crate::runtime::session_dir::RunDir;
#[cfg(feature = "failpoints")]
use crate::runtime::session_dir::SessionDir;
use crate::runtime::shim::{self, Peer, Shim, ShimError};
use crate::runtime::{BuildRequest, CreateRequest, Image, PlaceState, RuntimeError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// A shim that does not answer for so long after its start is unreachable.
const SHIM_PATIENCE: Duration = Duration::from_secs(5);
/// Containers made for a run whose shims die before they have it.
const ATTEMPTS_MAX: u32 = 3;
/// Build lines waiting to be recorded; the builder waits beyond.
const BUILD_LINES: usize = 256;

/// Gets the run its image, builds it or snapshots the container before it, and
/// goes on to the container.
///
/// `admitted` goes into the first commit: what was let go is about to be built.
pub(super) async fn build(
    driver: &mut Driver,
    record: &SessionRecord,
    run: &RunRecord,
    attempt: u32,
    admitted: Option<EventKind>,
) -> Result<(), Over> {
    let mut first: Vec<EventKind> = admitted.into_iter().collect();
    let left = bounds::check_left(run.bounds, record, run.number);
    let further = driver::goes_on(record, run);
    let prepared = left.and_then(|()| prepare(driver, run.number, further));
    if let Err(error) = prepared {
        first.push(driver::failure(error));
        return driver.link.record(run.number, first).await;
    }
    if driver::goes_on(record, run) {
        if !first.is_empty() {
            driver.link.record(run.number, first).await?;
        }
        return snapshot(driver, record, run).await;
    }
    let number = run.number;
    let values = match values(driver, run) {
        Ok(values) => values,
        Err(error) => {
            first.push(driver::failure(error));
            return driver.link.record(number, first).await;
        }
    };
    let mask = environment::Mask::new(&values);
    let tag = driver.spec.pod.image.clone();
    first.push(EventKind::BuildStarted { attempt, tag });
    driver.link.record(number, first).await?;
    fail_point!("launch.building");
    let began = Instant::now();
    let (sender, mut lines) = mpsc::channel::<Vec<u8>>(BUILD_LINES);
    let runtime = driver.runtime.clone();
    let spec = driver.spec.clone();
    let home = driver.link.shared.home;
    let building = async move {
        let request = BuildRequest {
            proxy: proxy::for_build(&spec.pod, &values.proxy).env,
            secrets: values.build.into_iter().map(|(id, v)| (id, v.0)).collect(),
            ..BuildRequest::new(home, spec.pod.clone(), spec.build)
        };
        let image = runtime.build(&request, sender).await?;
        let config = runtime.image_config(&image.id).await?;
        Ok::<(Image, ImageConfig), RuntimeError>((image, config))
    };
    let link = driver.link.clone();
    let recording = async {
        let mut batch = Vec::new();
        while lines.recv_many(&mut batch, BUILD_LINES).await > 0 {
            let output = batch
                .drain(..)
                .map(|line| EventKind::BuildOutput {
                    line: Blob(mask.line(line)),
                })
                .collect();
            link.record(number, output).await?;
        }
        Ok::<(), Over>(())
    };
    let mut published = driver.link.published.clone();
    let (built, recorded) = tokio::select! {
        both = async { tokio::join!(building, recording) } => both,
        // Dropping the build cancels it; the state says what comes next.
        () = Driver::stop_asked(&mut published, number, None) => return Ok(()),
    };
    recorded?;
    match built {
        Ok((image, config)) => {
            let complete = EventKind::BuildComplete {
                image: image.id,
                seconds: began.elapsed().as_secs_f64(),
                cached: image.cached,
                created: image.created,
                config: Some(config),
            };
            create(driver, record, number, complete).await
        }
        Err(error) => driver.fail(number, mask.error(error.into())).await,
    }
}

/// There is an image: records that together with the intent to create a
/// container of it, and launches that.
async fn create(
    driver: &mut Driver,
    record: &SessionRecord,
    number: u32,
    complete: EventKind,
) -> Result<(), Over> {
    let container = record.id.container_name(number);
    let creating = EventKind::Creating {
        attempt: 1,
        container,
    };
    fail_point!("launch.built");
    driver.link.record(number, vec![complete, creating]).await?;
    fail_point!("launch.creating");
    launch(driver, record, number, true).await
}

/// What is checked on this machine before anything is made.
fn prepare(driver: &Driver, number: u32, further: bool) -> Result<(), Error> {
    for file in &driver.spec.pod.copy {
        // A further run's container has them from the one before it.
        if !further && !file.source.try_exists().unwrap_or(false) {
            let source = file.source.display();
            let message = format!("copy source {source} does not exist");
            return Err(Error::new(ErrorCode::InvalidPod, message)
                .hint("make it, or mark it \"optional\": true in pod.json"));
        }
    }
    for mount in &driver.spec.pod.mounts {
        if mount.source.is_absolute() && !mount.source.try_exists().unwrap_or(false) {
            let source = mount.source.display();
            let message = format!("mount source {source} does not exist");
            return Err(Error::new(ErrorCode::InvalidPod, message)
                .hint("make it, or mark the mount \"optional\": true in pod.json"));
        }
    }
    let dir = driver.link.shared.session_dir(driver.link.ulid);
    shim::install(&dir).map_err(|error| {
        let place = dir.path().display();
        Error::new(
            ErrorCode::Internal,
            format!("cannot prepare {place} for run {number}: {error}"),
        )
    })?;
    #[cfg(feature = "failpoints")]
    arm_shims(driver, &dir)?;
    Ok(())
}

#[cfg(feature = "failpoints")]
fn arm_shims(driver: &Driver, dir: &SessionDir) -> Result<(), Error> {
    let record = driver.record();
    let name = record.name.as_deref().unwrap_or_default();
    let called = [name, record.pod.as_str()];
    crate::failpoint::arm_shims(&dir.bin(), &called)
        .map_err(|error| Error::new(ErrorCode::Internal, error.to_string()))
}

async fn snapshot(
    driver: &mut Driver,
    record: &SessionRecord,
    run: &RunRecord,
) -> Result<(), Over> {
    let began = Instant::now();
    let Some((last, place)) = record.last_place() else {
        let error = Error::new(
            ErrorCode::Gone,
            "the container of the run before is not known",
        );
        return driver.fail(run.number, error).await;
    };
    let owner = driver.owner(last.number, place.attempt);
    let tag = format!("cldpd-snapshot:{}-r{}", record.id, run.number);
    let runtime = &driver.runtime;
    let number = run.number;
    // A plain process leaves nothing that could be gone.
    let needed = driver.spec.runtime != RuntimeName::Local;
    let waits: &Driver = driver;
    let take = async {
        let mut told = false;
        loop {
            // Its last record may be here before the engine has seen it end.
            let result = match runtime.wait(&owner, &place.container).await {
                Ok(end) if end.is_some() || !needed => {
                    fail_point!("launch.snapshot");
                    runtime.snapshot(&owner, &place.container, &tag).await
                }
                Ok(_) => {
                    let container = place.container.clone();
                    let cause = "it is no longer there to be resumed from".to_owned();
                    Err(RuntimeError::Container { container, cause })
                }
                Err(error) => Err(error),
            };
            match result {
                Err(RuntimeError::Unavailable { cause, .. }) => {
                    if !told {
                        wait_for_engine(waits, number, &cause).await?;
                        told = true;
                    }
                    tokio::time::sleep(ENGINE_RETRY).await;
                }
                other => break Ok::<_, Over>(other),
            }
        }
    };
    let mut published = driver.link.published.clone();
    let taken = tokio::select! {
        taken = take => taken?,
        // What was made of it goes with the session.
        () = Driver::stop_asked(&mut published, run.number, None) => return Ok(()),
    };
    match taken {
        Ok(image) => {
            let seconds = began.elapsed().as_secs_f64();
            let complete = EventKind::BuildComplete {
                image,
                seconds,
                cached: true,
                created: None,
                config: None,
            };
            create(driver, record, run.number, complete).await
        }
        Err(error) => driver.fail(run.number, error.into()).await,
    }
}

/// Says, where the user sees it, what the run is waiting for.
async fn wait_for_engine(driver: &Driver, number: u32, cause: &str) -> Result<(), Over> {
    tracing::warn!(session = %driver.link.ulid, cause, "waiting for the engine");
    let message = format!(
        "{} is not available: {cause}; waiting for it",
        driver.spec.runtime
    );
    let code = "waiting_for_engine".to_owned();
    driver
        .link
        .record(number, vec![EventKind::Note { code, message }])
        .await
}

/// Sees to it that the container of a run that is being created runs, and that its shim has the run.
pub(super) async fn launch(
    driver: &mut Driver,
    earlier: &SessionRecord,
    number: u32,
    fresh: bool,
) -> Result<(), Over> {
    let record = driver.record();
    let Some(run) = record.runs.get(number as usize) else {
        return Ok(());
    };
    let RunState::Live {
        phase: Phase::Creating { image, place },
        // With a stop, it is taken back.
        stop: None,
    } = &run.state
    else {
        return Ok(());
    };
    let (image, place) = (image.clone(), place.clone());
    let placed = place_run(driver, earlier, run, &image, &place, fresh).await;
    let notes = std::mem::take(&mut driver.notes);
    if !notes.is_empty() {
        driver.link.record(number, notes).await?;
    }
    match placed {
        Ok(Placed::Accepted(attached)) => {
            accepted(driver, number).await?;
            driver.attached = attached;
            Ok(())
        }
        Ok(Placed::Again) if place.attempt >= ATTEMPTS_MAX => {
            let (container, tries) = (&place.container, place.attempt);
            let message = format!(
                "container {container}: its shim ended before it took the run, {tries} times"
            );
            let error = Error::new(ErrorCode::ContainerFailed, message);
            driver.fail(number, error).await
        }
        Ok(Placed::Again) => {
            let owner = driver.owner(number, place.attempt);
            if let Err(error) = driver.runtime.remove(&owner, &place.container, true).await {
                return driver.fail(number, error.into()).await;
            }
            let (attempt, container) = (place.attempt + 1, place.container);
            driver
                .link
                .record(number, vec![EventKind::Creating { attempt, container }])
                .await
        }
        Ok(Placed::TakenBack | Placed::Unknown) => Ok(()),
        Err(Failure::Unavailable(cause)) if !fresh => {
            // Whether the container is there cannot be known now, so nothing is given up.
            tracing::warn!(session = %driver.link.ulid, cause, "waiting for the engine");
            let mut published = driver.link.published.clone();
            tokio::select! {
                () = tokio::time::sleep(ENGINE_RETRY) => {}
                () = Driver::stop_asked(&mut published, number, None) => {}
            }
            Ok(())
        }
        Err(Failure::Unavailable(cause)) => {
            let message = format!("{} is not available: {cause}", driver.spec.runtime);
            driver
                .fail(number, Error::new(ErrorCode::RuntimeUnavailable, message))
                .await
        }
        Err(Failure::ImageGone(error)) => {
            // Of a further run it was all there was.
            if driver::goes_on(earlier, run) || driver.built_again == Some(number) {
                return driver.fail(number, error).await;
            }
            driver.built_again = Some(number);
            let step = "the image is gone; getting it again".to_owned();
            let again = EventKind::Preparing { step };
            driver.link.record(number, vec![again]).await
        }
        Err(Failure::Run(error)) => driver.fail(number, error).await,
    }
}

/// Records that the shim has the run, which then needs its values no more.
pub(super) async fn accepted(driver: &Driver, number: u32) -> Result<(), Over> {
    let record = driver.record();
    let Some(run) = record.runs.get(number as usize) else {
        return Ok(());
    };
    let (how, prompt) = (run.how, run.prompt.clone());
    let started = EventKind::RunStarted { how, prompt };
    driver.link.record(number, vec![started]).await?;
    fail_point!("launch.recorded");
    let record = driver.record();
    let dir = driver.link.shared.session_dir(driver.link.ulid);
    environment::forget_unneeded(&dir, &record, number);
    Ok(())
}

fn not_copied(message: String) -> EventKind {
    EventKind::Note {
        code: "not_copied".to_owned(),
        message,
    }
}

enum Placed {
    /// The shim has the run.
    Accepted(Option<Attached>),
    /// This attempt's shim died before it had the run: make another.
    Again,
    /// A stop was asked for before the shim had the run.
    TakenBack,
    /// The connection broke: whether the shim has it, it says itself when asked again.
    Unknown,
}

enum Failure {
    Unavailable(String),
    /// Somebody removed the image after it was built or found; there is no container.
    ImageGone(Error),
    Run(Error),
}

impl From<RuntimeError> for Failure {
    fn from(error: RuntimeError) -> Self {
        match error {
            RuntimeError::Unavailable { cause, .. } => Self::Unavailable(cause),
            gone @ RuntimeError::Image { .. } => Self::ImageGone(gone.into()),
            other => Self::Run(other.into()),
        }
    }
}

async fn place_run(
    driver: &mut Driver,
    record: &SessionRecord,
    run: &RunRecord,
    image: &str,
    place: &Place,
    fresh: bool,
) -> Result<Placed, Failure> {
    let owner = driver.owner(run.number, place.attempt);
    let name = &place.container;
    let dir = driver
        .link
        .shared
        .session_dir(driver.link.ulid)
        .run(run.number, place.attempt);
    let runtime = driver.runtime.clone();
    let found = if fresh {
        None
    } else {
        runtime.find(&owner, name).await?
    };
    let id = run_id(driver.link.ulid, run.number, place.attempt);
    match found.map(|found| found.state) {
        Some(PlaceState::Running { .. }) => {
            fail_point!("launch.looked");
        }
        Some(PlaceState::Exited(_)) => return told::after_death(&dir, &owner, id).await,
        None | Some(PlaceState::Gone | PlaceState::Created) => {
            shim::prepare_run(&dir).map_err(|error| Failure::Run(internal(&error)))?;
            let mut request =
                create_request(driver, record, run, image, place, dir.clone()).await?;
            let values = values(driver, run).map_err(Failure::Run)?;
            if values.proxies(&driver.spec).host {
                proxy::add_host(&mut request.pod.extra_hosts);
            }
            runtime.create(&request).await?;
            fail_point!("launch.created");
            if request.copy && !request.pod.copy.is_empty() {
                let left_out = runtime.copy_in(&request).await?;
                driver.notes.extend(left_out.into_iter().map(not_copied));
            }
            runtime.start(&request).await?;
            fail_point!("launch.started");
        }
    }
    let found = runtime.find(&owner, name).await?;
    driver.container_id = found.as_ref().map(|found| found.id.clone());
    let pid = match found.map(|found| found.state) {
        Some(PlaceState::Running { pid, .. }) => pid,
        Some(PlaceState::Exited(_)) => match told::after_death(&dir, &owner, id).await {
            // Told by a daemon that died, it may have done all its work by now.
            Ok(Placed::Accepted(_)) => return Ok(Placed::Accepted(None)),
            // Or the engine was at a start that a daemon had asked for when it died, and
            // gave it up after the shim was born: another one is not, in that place.
            Ok(Placed::Again) if !fresh && place.attempt < ATTEMPTS_MAX => {
                return Ok(Placed::Again);
            }
            Ok(_) | Err(_) => return Err(Failure::Run(ended_at_once(driver, name, &dir).await)),
        },
        None | Some(PlaceState::Gone | PlaceState::Created) => {
            return Err(Failure::Run(ended_at_once(driver, name, &dir).await));
        }
    };
    let peer = driver.peer(pid);
    let generation = driver.link.claim.generation;
    let connect = || Shim::connect(&dir, peer, generation, SHIM_PATIENCE);
    let mut connected = connect().await;
    if fresh
        && matches!(
            connected,
            Err(ShimError::Timeout { .. } | ShimError::Closed)
        )
    {
        // All of this may have been stopped in that moment: it is asked once more.
        fail_point!("launch.unanswered");
        connected = connect().await;
    }
    let shim = match connected {
        Ok(shim) => shim,
        Err(ShimError::Dead { .. }) => return told::after_death(&dir, &owner, id).await,
        // It may have the run since before, and be frozen or busy: it is asked again.
        Err(error @ (ShimError::Timeout { .. } | ShimError::Closed)) if !fresh => {
            return Err(Failure::Unavailable(error.to_string()));
        }
        // It was there and went, as when all of this was asleep: it is looked at again.
        Err(ShimError::Closed) => return Ok(Placed::Unknown),
        Err(error) => return Err(Failure::Run(unreachable_shim(name, &error))),
    };
    if !shim.hello().knows(id) {
        if driver
            .record()
            .runs
            .get(run.number as usize)
            .is_some_and(|r| r.state.stop().is_some())
        {
            return Ok(Placed::TakenBack);
        }
        let body = run_body(driver, run, id).map_err(Failure::Run)?;
        fail_point!("launch.met");
        match shim.run(&body).await {
            Ok(()) => {
                fail_point!("launch.accepted");
            }
            Err(ShimError::Dead { .. } | ShimError::Closed) => return Ok(Placed::Unknown),
            Err(error) => return Err(Failure::Run(unreachable_shim(name, &error))),
        }
    }
    Ok(Placed::Accepted(Some(Attached {
        shim,
        run: run.number,
        attempt: place.attempt,
    })))
}

/// The shim's own word on why it ended before it had anything to run.
async fn ended_at_once(driver: &Driver, name: &str, dir: &RunDir) -> Error {
    let generation = driver.link.claim.generation;
    let cause = match Shim::connect(dir, driver.peer(None), generation, Duration::ZERO).await {
        Err(ShimError::Failed { message, .. }) => message,
        Ok(_) | Err(_) => "it ended before it said anything".to_owned(),
    };
    Error::new(
        ErrorCode::ContainerFailed,
        format!("container {name}: {cause}"),
    )
}

async fn create_request(
    driver: &Driver,
    record: &SessionRecord,
    run: &RunRecord,
    image: &str,
    place: &Place,
    dirs: RunDir,
) -> Result<CreateRequest, RuntimeError> {
    let mut volumes = Vec::new();
    if matches!(run.how, How::Next | How::Retry)
        && let Some((last, earlier)) = record.last_place()
    {
        let owner = driver.owner(last.number, earlier.attempt);
        if let Some(found) = driver.runtime.find(&owner, &earlier.container).await? {
            volumes = found.volumes;
        }
    }
    let config = record.image_config.clone().unwrap_or_default();
    // After runs that never began it is the first of its container all the same.
    let further = driver::goes_on(record, run);
    Ok(CreateRequest {
        owner: driver.owner(run.number, place.attempt),
        name: place.container.clone(),
        image: image.to_owned(),
        pod: driver.spec.pod.clone(),
        workdir: driver
            .spec
            .pod
            .workdir
            .clone()
            .or(config.workdir.filter(|_| further)),
        user: driver
            .spec
            .pod
            .user
            .clone()
            .or_else(|| further.then_some(config.user))
            .filter(|user| !user.is_empty()),
        limits: driver.spec.limits,
        copy: !further,
        dirs,
        volumes,
    })
}

fn unreachable_shim(container: &str, error: &ShimError) -> Error {
    Error::new(
        ErrorCode::RuntimeUnavailable,
        format!("container {container}: its shim cannot be reached: {error}"),
    )
    .hint("does the engine see this machine's files? `cldpd doctor` looks")
}

fn internal(error: &RuntimeError) -> Error {
    Error::new(ErrorCode::Internal, error.to_string())
}

impl Driver {
    /// Who has to be at the other end of a shim's socket.
    pub(super) fn peer(&self, pid: Option<u32>) -> Peer {
        peer_of(self.spec.runtime, pid)
    }
}

/// Who has to be at the other end of a shim's socket in that runtime.
pub(super) fn peer_of(runtime: RuntimeName, pid: Option<u32>) -> Peer {
    match runtime {
        RuntimeName::Docker => Peer::Container { pid },
        RuntimeName::Local | RuntimeName::Fake => Peer::Local,
    }
}
