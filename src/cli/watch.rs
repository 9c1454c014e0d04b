//! Following runs to their end, and what Ctrl+C does meanwhile.
//!
//! Events of all runs are printed as they come. A stream that ends is followed
//! by the question how its run ended: the daemon knows, whatever was shown.

use super::Context;
use super::error::Failure;
use super::output::Printer;
use super::signals::{Sent, Signals};
use crate::client::{Client, EventStream};
use crate::model::api::{EventsQuery, StopRequest, StopResponse, WaitResponse};
use crate::model::{Error, EventKind, Result, SessionEvent, Ulid, exit};
use futures::StreamExt as _;
use futures::future::BoxFuture;
use futures::stream::{self, FuturesUnordered, SelectAll};

/// Seconds between SIGTERM and SIGKILL after the first Ctrl+C.
const GRACE: u32 = 10;

/// What to follow.
#[derive(Clone, Debug)]
pub struct Target {
    /// The session.
    pub session: Ulid,
    /// What it is called.
    pub id: String,
    /// Only this run.
    pub run: Option<u32>,
    /// Which events.
    pub query: EventsQuery,
}

/// What Ctrl+C does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnInterrupt {
    /// Stops the runs gracefully; the second one kills them.
    Stop,
    /// Leaves them.
    Leave,
}

/// What may happen next.
enum Next {
    Signal(Sent),
    Event(usize, Option<Result<SessionEvent>>),
    Ended(usize, Result<WaitResponse>),
    Stopped(Result<StopResponse>),
    Quiet,
}

struct Watch<'a> {
    client: &'a Client,
    targets: Vec<Target>,
    /// How each ended, as an exit code.
    codes: Vec<Option<u8>>,
    ends: FuturesUnordered<BoxFuture<'static, (usize, Result<WaitResponse>)>>,
    stops: FuturesUnordered<BoxFuture<'static, Result<StopResponse>>>,
    interrupts: u32,
}

/// Follows `targets` until all have ended, and returns the first code that is
/// not 0, in their order. `signals` are taken care of; `interrupted` says that Ctrl+C
/// came before.
///
/// # Errors
/// [`Failure::Closed`] when nobody reads any more: the runs go on.
pub async fn watch(
    context: &mut Context,
    client: &Client,
    targets: &[Target],
    printer: &mut Printer,
    signals: &mut Signals,
    on_interrupt: OnInterrupt,
    interrupted: bool,
) -> Result<u8, Failure> {
    let mut watch = Watch {
        client,
        targets: targets.to_vec(),
        codes: vec![None; targets.len()],
        ends: FuturesUnordered::new(),
        stops: FuturesUnordered::new(),
        interrupts: 0,
    };
    let mut events = SelectAll::new();
    for (index, target) in targets.iter().enumerate() {
        match client
            .events_following(&target.session.to_string(), target.query.clone())
            .await
        {
            Ok(stream) => events.push(with_end(index, stream, target.run)),
            Err(error) => watch.give_up(context, index, &error),
        }
    }
    match (interrupted, on_interrupt) {
        (false, _) => {}
        (true, OnInterrupt::Stop) => watch.interrupt(context),
        (true, OnInterrupt::Leave) => return Ok(watch.leave(context)),
    }
    let mut unflushed = false;
    while watch.codes.contains(&None) {
        let next = tokio::select! {
            biased;
            sent = signals.next() => Next::Signal(sent),
            Some(result) = watch.stops.next() => Next::Stopped(result),
            Some((index, event)) = events.next() => Next::Event(index, event),
            Some((index, end)) = watch.ends.next() => Next::Ended(index, end),
            // Everything that has come is printed: it is to be seen now.
            () = std::future::ready(()), if unflushed => Next::Quiet,
        };
        match next {
            Next::Signal(Sent::Interrupt) if on_interrupt == OnInterrupt::Stop => {
                watch.interrupt(context);
            }
            Next::Signal(_) => {
                printer.finish(&mut context.ui)?;
                return Ok(watch.leave(context));
            }
            Next::Event(_, Some(Ok(event))) => {
                printer.print(&mut context.ui, &event)?;
                unflushed = true;
            }
            Next::Event(index, Some(Err(error))) => watch.give_up(context, index, &error),
            Next::Event(index, None) => watch.ask_how(index),
            Next::Ended(index, Ok(answer)) => {
                context.ui.flush()?;
                if let Some(error) = &answer.end.error {
                    let target = &targets[index];
                    let run = answer.end.run;
                    let error = printer.at_the_end(&context.ui, target.session, run, error);
                    context.ui.error(&error);
                }
                match answer.end.retry {
                    // Who waits for the run waits for what tries it again.
                    Some(retry) => match watch.follow_on(context, index, retry).await {
                        Ok(stream) => events.push(with_end(index, stream, Some(retry))),
                        Err(error) => watch.give_up(context, index, &error),
                    },
                    None => watch.codes[index] = Some(answer.end.exit_code),
                }
            }
            Next::Ended(index, Err(error)) => watch.give_up(context, index, &error),
            Next::Stopped(Err(error)) => context.ui.error(&error),
            Next::Stopped(Ok(_)) => {}
            Next::Quiet => {
                context.ui.flush()?;
                unflushed = false;
            }
        }
    }
    printer.finish(&mut context.ui)?;
    Ok(first_bad(watch.codes.iter().flatten().copied()))
}

/// The first code that is not 0.
#[must_use]
pub fn first_bad(mut codes: impl Iterator<Item = u8>) -> u8 {
    codes.find(|code| *code != exit::OK).unwrap_or(exit::OK)
}

/// A stream whose end is an item too. It ends with the run that is followed, also where
/// others are shown beside it.
fn with_end(
    index: usize,
    events: EventStream<SessionEvent>,
    run: Option<u32>,
) -> stream::BoxStream<'static, (usize, Option<Result<SessionEvent>>)> {
    // After an error there is no end to ask about: the error is the end.
    let state = Some(events);
    stream::unfold(state, move |state| async move {
        let mut events = state?;
        match events.next().await {
            Some(Ok(event)) => {
                let is_last = ends(&event, run);
                let rest = if is_last {
                    stream::empty().boxed()
                } else {
                    events
                };
                Some(((index, Some(Ok(event))), Some(rest)))
            }
            Some(Err(error)) => Some(((index, Some(Err(error))), None)),
            None => Some(((index, None), None)),
        }
    })
    .boxed()
}

/// Whether nothing more comes of the run that is followed.
fn ends(event: &SessionEvent, run: Option<u32>) -> bool {
    matches!(event.event.kind, EventKind::RunEnded { .. }) && run == Some(event.event.run)
}

impl Watch<'_> {
    /// Asks how the run ended whose events have come to their end.
    fn ask_how(&self, index: usize) {
        let client = self.client.clone();
        let (session, run) = (
            self.targets[index].session.to_string(),
            self.targets[index].run,
        );
        self.ends.push(Box::pin(async move {
            (index, client.wait(&session, run).await)
        }));
    }

    /// Goes on with the run that tries again what failed; a stop of the one before is
    /// meant for it as well.
    async fn follow_on(
        &mut self,
        context: &mut Context,
        index: usize,
        run: u32,
    ) -> Result<EventStream<SessionEvent>> {
        let target = &mut self.targets[index];
        target.run = Some(run);
        target.query.run = Some(run);
        let (session, query) = (target.session.to_string(), target.query.clone());
        if self.interrupts > 0 {
            self.interrupts -= 1;
            self.interrupt(context);
        }
        self.client.events_following(&session, query).await
    }

    /// Nothing more can be learnt of a run.
    fn give_up(&mut self, context: &mut Context, index: usize, error: &Error) {
        context.ui.error(error);
        self.codes[index] = Some(error.code.exit_code());
    }

    fn live(&self) -> impl Iterator<Item = &Target> {
        let ended = self.codes.iter().map(Option::is_some);
        let live = self.targets.iter().zip(ended);
        live.filter_map(|(target, ended)| (!ended).then_some(target))
    }

    fn interrupt(&mut self, context: &mut Context) {
        self.interrupts += 1;
        let grace = if self.interrupts == 1 { GRACE } else { 0 };
        if self.interrupts == 1 {
            context.ui.note(&format!(
                "stopping, {GRACE} s to end by itself; Ctrl+C again kills"
            ));
        } else {
            context.ui.note("killing");
        }
        for target in self.live() {
            let request = StopRequest {
                request: Ulid::generate(),
                grace,
                run: target.run,
                wait: false,
            };
            let (client, session) = (self.client.clone(), target.session.to_string());
            self.stops.push(Box::pin(
                async move { client.stop(&session, &request).await },
            ));
        }
    }

    /// Says how to come back. The code is an outcome's only if all have one.
    fn leave(&self, context: &mut Context) -> u8 {
        for target in self.live() {
            context.ui.note(&format!(
                "{id} works on: `cldpd attach {id}` to see it, `cldpd stop {id}` to stop it",
                id = target.id
            ));
        }
        exit::INTERRUPTED
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::output::Manner;
    use crate::client::testing::{Answer, Server, event};
    use crate::model::ErrorCode;

    const STREAM_END: &str = "{\"end\":true}\n";

    fn daemon(code: u8, error: Option<Error>) -> Result<Server> {
        Server::answering(move |request| {
            if request.contains("/events") {
                return Answer::stream(&[&event(1), STREAM_END]);
            }
            if request.ends_with("/stop") {
                return Answer::json(
                    &serde_json::json!({ "id": "mypod-00000001", "was_live": true }),
                );
            }
            Answer::json(&serde_json::json!({
                "id": "mypod-00000001", "run": 0, "outcome": "stopped",
                "code": code, "exit_code": code, "error": error,
            }))
        })
    }

    /// Watches one run while these signals come; its code, and what was written.
    async fn watched(
        server: &Server,
        sent: &[Sent],
        on_interrupt: OnInterrupt,
    ) -> Result<(u8, String, String), Failure> {
        let (mut context, out, err) = Context::captured(server.home());
        let client = context.client().await?;
        let mut signals = Signals::take()?;
        signals.scripted = sent.iter().copied().collect();
        let target = Target {
            session: Ulid(1),
            id: "mypod-00000001".to_owned(),
            run: Some(0),
            query: EventsQuery::default(),
        };
        let mut printer = Printer::new(Manner::default());
        let code = watch(
            &mut context,
            &client,
            &[target],
            &mut printer,
            &mut signals,
            on_interrupt,
            false,
        )
        .await?;
        Ok((code, out.text(), err.text()))
    }

    #[tokio::test(flavor = "current_thread")]
    async fn ctrl_c_stops_and_again_kills_and_all_is_printed() -> Result<(), Failure> {
        let server = daemon(137, None)?;
        let sent = [Sent::Interrupt, Sent::Interrupt];
        let (code, out, err) = watched(&server, &sent, OnInterrupt::Stop).await?;
        assert_eq!((code, out.as_str()), (137, "line 1\n"));
        assert!(err.contains("stopping") && err.contains("killing"), "{err}");
        let bodies = server.bodies("/stop");
        assert_eq!(bodies.len(), 2);
        for (grace, body) in [10, 0].into_iter().zip(bodies) {
            let request: StopRequest = serde_json::from_str(&body)
                .map_err(|e| Error::new(ErrorCode::Internal, e.to_string()))?;
            assert_eq!(
                (request.grace, request.run),
                (grace, Some(0)),
                "only this run"
            );
        }
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn those_who_leave_stop_nothing() -> Result<(), Failure> {
        for (sent, on_interrupt) in [
            (Sent::Interrupt, OnInterrupt::Leave),
            (Sent::Leave, OnInterrupt::Leave),
            (Sent::Leave, OnInterrupt::Stop),
        ] {
            let server = daemon(0, None)?;
            let (code, _, err) = watched(&server, &[sent], on_interrupt).await?;
            assert_eq!(code, exit::INTERRUPTED);
            assert!(err.contains("cldpd attach mypod-00000001"), "{err}");
            assert!(server.bodies("/stop").is_empty());
        }
        Ok(())
    }

    #[tokio::test(flavor = "current_thread")]
    async fn what_went_wrong_is_told_at_the_end() -> Result<(), Failure> {
        let error = Error::new(
            ErrorCode::RuntimeUnavailable,
            "docker is not available: no socket",
        );
        let server = daemon(69, Some(error.hint("start it")))?;
        let (code, _, err) = watched(&server, &[], OnInterrupt::Stop).await?;
        assert_eq!(code, 69);
        assert_eq!(
            err,
            "error: docker is not available: no socket\nhint: start it\n"
        );
        Ok(())
    }

    #[test]
    fn the_first_failure_counts() {
        assert_eq!(first_bad([0, 0].into_iter()), 0);
        assert_eq!(first_bad([0, 7, 3].into_iter()), 7);
        assert_eq!(first_bad([].into_iter()), 0);
    }
}
