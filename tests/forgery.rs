//! Spools whose checksums are right and whose contents are a lie, as whoever is the
//! agent's user could write them: it costs that session what is not known any more, and
//! nobody else anything.

use crate::support::TestEnv;
use crate::support::events::{assert_dense, of_kind};
use cldpd::runtime::shim::spool::{
    Control, FRAME_HEADER, FrameHead, HEADER, Kind, Parsed, parse, seal,
};
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What is put in the place of a frame, as long as that.
type Lie = fn(FrameHead, &[u8]) -> Vec<u8>;

/// In a line of so many letters is room for a lie.
const ROOM: usize = 400;

fn frame(head: FrameHead, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEADER];
    frame.extend_from_slice(payload);
    seal(&mut frame, &head);
    frame
}

/// A record, and a note that fills the rest.
fn record(ordinal: u64, time: i64, control: Control, length: usize) -> Vec<u8> {
    let head = |position| FrameHead {
        kind: Kind::Control,
        run: 0,
        position,
        time,
    };
    let note = |message: String| {
        let code = "forged".to_owned();
        Control::Note { code, message }.encode()
    };
    let mut bytes = frame(head(ordinal), &control.encode());
    let left = length - bytes.len() - FRAME_HEADER - note(String::new()).len();
    bytes.extend(frame(head(ordinal + 1), &note("x".repeat(left))));
    bytes
}

/// The note that tells of it, if any has to, and what the run exits with.
const LIES: [(&str, Option<&str>, i32, Lie); 9] = [
    (
        "what was said before it is missing",
        Some("gap"),
        3,
        |head, payload| {
            let position = head.position + 1000;
            frame(FrameHead { position, ..head }, payload)
        },
    ),
    (
        "what was said is said again",
        Some("gap"),
        3,
        |head, payload| {
            frame(
                FrameHead {
                    position: 0,
                    ..head
                },
                payload,
            )
        },
    ),
    (
        "it stands where nothing can",
        Some("gap"),
        3,
        |head, payload| {
            let position = u64::MAX - 3;
            frame(FrameHead { position, ..head }, payload)
        },
    ),
    ("it was said in the future", None, 3, |head, payload| {
        frame(
            FrameHead {
                time: i64::MAX,
                ..head
            },
            payload,
        )
    }),
    (
        "it was said before there was time",
        None,
        3,
        |head, payload| {
            frame(
                FrameHead {
                    time: i64::MIN,
                    ..head
                },
                payload,
            )
        },
    ),
    ("another run said it", Some("gap"), 3, |head, payload| {
        frame(FrameHead { run: 7, ..head }, payload)
    }),
    ("another run ended", Some("gap"), 3, |head, payload| {
        let control = Control::Exited {
            run: 9,
            code: 0,
            signal: None,
        };
        record(3, head.time, control, FRAME_HEADER + payload.len())
    }),
    (
        "records are missing",
        Some("spool_damaged"),
        3,
        |head, payload| {
            let control = Control::Started { run: 0, pid: 1 };
            record(1 << 40, head.time, control, FRAME_HEADER + payload.len())
        },
    ),
    // It could have ended so, had it wanted to.
    ("the run ended, and well", None, 0, |head, payload| {
        let control = Control::Exited {
            run: 0,
            code: 0,
            signal: None,
        };
        record(3, head.time, control, FRAME_HEADER + payload.len())
    }),
];

/// Puts a lie in the place of the last frame.
fn forge(spool: &Path, lie: Lie) {
    let bytes = std::fs::read(spool).expect("it can be read");
    let mut at = HEADER;
    let mut last = None;
    while let Parsed::Frame(head, payload, length) = parse(&bytes[at..]) {
        if payload.len() >= ROOM {
            last = Some((at, head, payload));
        }
        at += length;
    }
    let (at, head, payload) = last.expect("the line is there");
    let forged = lie(head, payload);
    assert_eq!(forged.len(), FRAME_HEADER + payload.len());
    let file = std::fs::File::options().write(true).open(spool);
    let file = file.expect("it can be written");
    file.write_all_at(&forged, at as u64)
        .expect("there is room");
}

#[test]
fn a_forged_spool_costs_its_own_session_alone() {
    let env = TestEnv::new();
    let pod = env.local_pod("forged").plain().make();
    let told: Vec<_> = (0..LIES.len())
        .map(|n| env.gate(&format!("told-{n}")))
        .collect();
    let armed: Vec<String> = told
        .iter()
        .enumerate()
        // Accepted, started, done, the first line, the second.
        .map(|(n, gate)| format!("forged-{n}/spool.written=tell:{}@5", gate.path().display()))
        .collect();
    let start = env.cldpd(["daemon", "start"]);
    start
        .env("CLDPD_SHIM_FAILPOINTS", armed.join(";"))
        .run()
        .ok();
    let line = "y".repeat(ROOM);
    let mut sessions = Vec::new();
    for n in 0..=LIES.len() {
        let gates = [env.gate(&format!("a-{n}")), env.gate(&format!("b-{n}"))];
        let prompt = format!(
            "[[print up]]{}[[print {line}]]{}[[print down]][[exit 3]]",
            gates[0].hold(),
            gates[1].hold()
        );
        let name = format!("forged-{n}");
        let id = env.start(&[&pod, "--name", &name, "--prompt", &prompt]);
        env.await_line(&id, "up");
        sessions.push((id, gates));
    }
    let honest = sessions.pop().expect("one more");
    env.kill_daemon();
    for (((_, _, _, lie), (id, gates)), gate) in LIES.iter().zip(&sessions).zip(&told) {
        gates[0].open();
        std::fs::read(gate.path()).expect("our own FIFO");
        let places = env.session_dirs().into_iter();
        let mut places = places.map(|ulid| env.home().join("sessions").join(ulid).join("r0.1"));
        let own = places.find(|place| {
            let label = std::fs::read_to_string(place.join("place")).unwrap_or_default();
            label.contains(&format!("\"{id}\""))
        });
        forge(&own.expect("its place").join("spool.0000"), *lie);
    }
    env.start_daemon();
    let daemon = env.daemon_pid();
    for ((what, told, code, _), (id, gates)) in LIES.iter().zip(&sessions) {
        gates[1].open();
        assert_eq!(env.wait(id), *code, "{what}");
        let events = env.events(id);
        assert_dense(&events);
        assert_eq!(of_kind(&events, "run_ended").len(), 1, "{what}");
        let now = cldpd::model::Timestamp::now().to_string();
        let times = events.iter().map(|event| event["time"].as_str());
        let times: Vec<&str> = times.map(|time| time.expect("a time")).collect();
        assert!(times.is_sorted(), "{what}: {times:#?}");
        assert!(
            *times.last().expect("some") < now.as_str(),
            "{what}: {times:#?}"
        );
        let notes = of_kind(&events, "note");
        let notes: Vec<_> = notes.iter().map(|note| &note["code"]).collect();
        let is_told = told.is_none_or(|told| notes.iter().any(|note| **note == told));
        assert!(is_told, "{what}: {notes:?}");
        assert!(env.said(id).starts_with("up\n"), "{what}");
    }
    honest.1[0].open();
    honest.1[1].open();
    assert_eq!(env.wait(&honest.0), 3);
    assert_eq!(env.said(&honest.0), format!("up\n{line}\ndown\n"));
    assert_eq!(env.daemon_pid(), daemon, "it was nothing to the daemon");
    env.cldpd(["journal", "verify"]).run().ok();
}
