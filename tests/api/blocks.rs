//! A session's events as blocks of the journal: the same events as in any other
//! form, whatever part of them is asked for, also while blocks are merged.

use super::client::ask;
use crate::support::TestEnv;
use crate::support::engine::block_on;
use cldpd::client::{Client, Home};
use cldpd::model::api::EventsQuery;
use cldpd::model::{Event, Stream};
use futures::{StreamExt as _, TryStreamExt as _};

fn client(env: &TestEnv) -> Client {
    let home = Home::new(env.home()).expect("a home");
    block_on(Client::connect(&home)).expect("its daemon runs")
}

async fn as_events(client: &Client, id: &str, query: &EventsQuery) -> Vec<Event> {
    let events = client.events_following(id, query.clone()).await;
    let events = events.expect("events").map_ok(|event| event.event);
    events.try_collect().await.expect("all of them")
}

async fn as_blocks(client: &Client, id: &str, query: &EventsQuery) -> Vec<Event> {
    let mut chunks = client.blocks(id, query.clone()).await.expect("blocks");
    let mut all = Vec::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.expect("a whole block");
        for event in chunk.events() {
            all.push(event.expect("an event").to_event().expect("an event"));
        }
    }
    all
}

#[test]
fn whatever_part_is_asked_for_blocks_and_events_are_the_same() {
    let env = TestEnv::new();
    let pod = env.local_pod("same").plain().make();
    let prompt = "[[tick 70 1]][[mixed 150]][[open a]][[sleep 1100]][[open b]][[long 200000]]\
                  [[err last]][[raw ff00fe0a]]";
    let id = env.start(&[&pod, "--prompt", prompt]);
    assert_eq!(env.wait(&id), 0);
    env.cldpd([
        "resume",
        "-d",
        &id,
        "--prompt",
        "[[lines 300]][[errlines 9]]",
    ])
    .run()
    .ok();
    assert_eq!(env.wait(&id), 0);
    let client = client(&env);
    let all = block_on(as_events(&client, &id, &EventsQuery::default()));
    assert!(all.len() > 600, "{}", all.len());
    let time = |part: usize| Some(all[all.len() * part / 10].time);
    let everything = EventsQuery::default();
    let parts = [
        everything.clone(),
        EventsQuery {
            after: Some(123),
            ..everything.clone()
        },
        EventsQuery {
            after: Some(u64::MAX),
            ..everything.clone()
        },
        EventsQuery {
            since: time(3),
            ..everything.clone()
        },
        EventsQuery {
            until: time(4),
            ..everything.clone()
        },
        EventsQuery {
            since: time(2),
            until: time(7),
            ..everything.clone()
        },
        EventsQuery {
            since: time(7),
            until: time(2),
            ..everything.clone()
        },
    ];
    let mut compared = 0;
    for part in parts {
        for run in [None, Some(0), Some(1)] {
            for stream in [None, Some(Stream::Stdout), Some(Stream::Stderr)] {
                for (tail, last) in [
                    (None, None),
                    (Some(7), None),
                    (None, Some(7)),
                    (Some(0), None),
                ] {
                    let query = EventsQuery {
                        run,
                        stream,
                        tail,
                        last,
                        ..part.clone()
                    };
                    let follow = EventsQuery {
                        follow: true,
                        ..query.clone()
                    };
                    let events = block_on(as_events(&client, &id, &query));
                    assert_eq!(
                        block_on(as_blocks(&client, &id, &query)),
                        events,
                        "{query:?}"
                    );
                    assert_eq!(
                        block_on(as_blocks(&client, &id, &follow)),
                        events,
                        "{follow:?}"
                    );
                    if let Some(last) = last {
                        assert!(events.len() as u64 <= last, "{query:?}");
                    }
                    compared += events.len();
                }
            }
        }
    }
    assert!(compared > 10_000, "{compared}");
}

#[test]
fn who_follows_blocks_misses_nothing_while_they_are_merged() {
    let env = TestEnv::new();
    let gate = env.gate("hold");
    let pod = env.local_pod("merged").plain().make();
    let prompt = format!("[[tick 400 1]]{}[[tick 300 1]][[exit 4]]", gate.hold());
    let id = env.start(&[&pod, "--prompt", &prompt]);
    let client = client(&env);
    let query = EventsQuery {
        follow: true,
        ..EventsQuery::default()
    };
    let followed = block_on(async {
        let mut chunks = client.blocks(&id, query.clone()).await.expect("blocks");
        let mut all: Vec<Event> = Vec::new();
        let mut gate = Some(gate);
        while let Some(chunk) = chunks.next().await {
            for event in chunk.expect("a whole block").events() {
                let event = event.expect("an event");
                all.push(event.to_event().expect("an event"));
            }
            let ticks = all
                .iter()
                .filter(|event| event.kind.name() == "output")
                .count();
            if ticks == 400
                && let Some(gate) = gate.take()
            {
                gate.open();
            }
        }
        all
    });
    let seqs: Vec<u64> = followed.iter().map(|event| event.seq).collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>());
    let all = block_on(as_events(&client, &id, &EventsQuery::default()));
    assert_eq!(followed, all);
}

#[test]
fn the_body_is_of_its_own_type_and_smaller_than_what_is_in_it() {
    let env = TestEnv::new();
    let pod = env.local_pod("small").plain().make();
    let id = env.start(&[&pod, "--prompt", "[[lines 20000 60]]"]);
    assert_eq!(env.wait(&id), 0);
    let answer = ask(&env, "GET", &format!("/v1/sessions/{id}/blocks"), None);
    assert_eq!(
        (answer.status, answer.kind.as_str()),
        (200, "application/vnd.cldpd.blocks")
    );
    assert_eq!(&answer.body[..4], b"cldc");
    assert!(answer.body.ends_with(b"{\"end\":true}"));
    assert!(answer.body.len() < 20_000 * 60 / 4, "{}", answer.body.len());
    let unknown = ask(&env, "GET", "/v1/sessions/nobody/blocks", None);
    assert_eq!(
        (unknown.status, unknown.json()["code"].as_str()),
        (404, Some("session_not_found"))
    );
}
