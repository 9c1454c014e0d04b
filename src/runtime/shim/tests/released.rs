//! What released shims say and are told, held by its bytes: they live on through
//! upgrades of everything else. Lines are added to the file, and none is changed.

use super::*;

const FROZEN: &str = include_str!("../../../../tests/fixtures/shim-1/wire.txt");

fn requests() -> Vec<(&'static str, Request)> {
    let id = 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10;
    let beside = Beside {
        argv: vec![b"ls".to_vec()],
        env: vec![(b"K".to_vec(), b"v".to_vec())],
        cwd: Some(b"/w".to_vec()),
    };
    vec![
        (
            "hello",
            Request::Hello {
                version: 1,
                generation: 2,
            },
        ),
        (
            "begin",
            Request::Begin {
                request: 3,
                id,
                total: 4,
                hash: [5; 32],
            },
        ),
        (
            "chunk",
            Request::Chunk {
                id,
                position: 6,
                bytes: b"piece".to_vec(),
            },
        ),
        (
            "trim",
            Request::Trim {
                request: 7,
                upto: 8,
            },
        ),
        ("watch", Request::Watch { beyond: 9 }),
        (
            "resize",
            Request::Resize {
                request: 10,
                run: 11,
                rows: 12,
                columns: 13,
            },
        ),
        (
            "input",
            Request::Input {
                request: 14,
                run: 15,
                position: 16,
                close: true,
                bytes: b"key".to_vec(),
            },
        ),
        ("exec", Request::Exec(ToProgram::Begin(beside))),
        (
            "exec-input",
            Request::Exec(ToProgram::Input(b"in".to_vec())),
        ),
        ("exec-input-end", Request::Exec(ToProgram::InputEnd)),
        ("exec-signal", Request::Exec(ToProgram::Signal(17))),
    ]
}

fn commands() -> Vec<(&'static str, Command)> {
    let run = |files: bool| {
        Command::Run(Box::new(RunCommand {
            run: 1,
            argv: vec![b"agent".to_vec(), b"-p".to_vec()],
            env: vec![(b"K".to_vec(), b"v".to_vec())],
            cwd: Some(b"/w".to_vec()),
            stdin: b"prompt".to_vec(),
            keep_stdin_open: true,
            tty: Some((2, 3)),
            primary: true,
            secrets: vec![(b"S".to_vec(), b"secret".to_vec())],
            files: match files {
                true => vec![(b"/f".to_vec(), 0o600, b"content".to_vec())],
                false => Vec::new(),
            },
        }))
    };
    let signal = Command::Signal { run: 4, signal: 15 };
    vec![
        ("run", run(false)),
        ("run-with-files", run(true)),
        (
            "steer",
            Command::Steer {
                run: 5,
                bytes: b"more".to_vec(),
            },
        ),
        ("signal", signal),
        ("stop", Command::Stop { run: 6, grace: 7 }),
    ]
}

fn answers() -> Vec<(&'static str, Answer)> {
    let greeting = Greeting {
        version: 1,
        session: 2,
        run: 3,
        attempt: 4,
        boot: [5; 16],
        base: 6,
        written: 7,
        runs: vec![RunStanding {
            run: 8,
            over: true,
            input: 9,
        }],
    };
    let known = [
        (10, Standing::Accepted),
        (11, Standing::Done),
        (12, Standing::Failed),
    ];
    let reply = Answer::Reply {
        request: 15,
        ok: false,
        message: "no".to_owned(),
    };
    let exited = FromProgram::Exited {
        code: 137,
        signal: Some(9),
    };
    let not_run = FromProgram::NotRun {
        code: 127,
        message: "none".to_owned(),
    };
    vec![
        ("greeting", Answer::Hello(greeting)),
        ("known", Answer::Known(known.to_vec())),
        ("ready", Answer::Ready),
        (
            "unwelcome",
            Answer::Unwelcome {
                version: 13,
                generation: 14,
            },
        ),
        ("reply", reply),
        ("written", Answer::Written { length: 16 }),
        ("displaced", Answer::Displaced { generation: 17 }),
        (
            "exec-started",
            Answer::Exec(FromProgram::Started { pid: 18 }),
        ),
        (
            "exec-output",
            Answer::Exec(FromProgram::Output(b"out".to_vec())),
        ),
        (
            "exec-errors",
            Answer::Exec(FromProgram::Errors(b"err".to_vec())),
        ),
        ("exec-taken", Answer::Exec(FromProgram::Taken(19))),
        ("exec-exited", Answer::Exec(exited)),
        ("exec-not-run", Answer::Exec(not_run)),
    ]
}

fn records() -> Vec<(&'static str, Control)> {
    vec![
        ("accepted", Control::Accepted { id: 1 }),
        ("started", Control::Started { run: 2, pid: 3 }),
        (
            "not-run",
            Control::NotRun {
                run: 4,
                code: 126,
                message: "why".to_owned(),
            },
        ),
        (
            "exited",
            Control::Exited {
                run: 5,
                code: 143,
                signal: Some(15),
            },
        ),
        (
            "eof",
            Control::Eof {
                run: 6,
                stderr: true,
            },
        ),
        (
            "done",
            Control::Done {
                id: 7,
                ok: false,
                message: "how".to_owned(),
            },
        ),
        (
            "note",
            Control::Note {
                code: "short".to_owned(),
                message: "words".to_owned(),
            },
        ),
        ("finished", Control::Finished),
    ]
}

/// A segment with one frame of output and one record.
fn segment() -> Vec<u8> {
    let header = SegmentHeader {
        number: 1,
        session: 2,
        run: 3,
        attempt: 4,
        boot: [5; 16],
        base: 6,
        ordinal: 7,
    };
    let mut bytes = header.encode();
    let output = Kind::Output {
        stderr: true,
        redacted: true,
    };
    for (kind, payload) in [
        (output, b"line\n".to_vec()),
        (Kind::Control, Control::Finished.encode()),
    ] {
        let mut frame = vec![0; FRAME_HEADER];
        frame.extend_from_slice(&payload);
        let head = FrameHead {
            kind,
            run: 8,
            position: 9,
            time: 10,
        };
        seal(&mut frame, &head);
        bytes.extend(frame);
    }
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_was_released_is_said_and_understood_as_ever() {
    let mut now = Vec::new();
    for (name, request) in requests() {
        let bytes = request.encode();
        assert!(Request::decode(&bytes) == Ok(request), "{name}");
        now.push(format!("request {name} {}", hex(&bytes)));
    }
    for (name, command) in commands() {
        let bytes = command.encode();
        assert!(Command::decode(&bytes) == Ok(command), "{name}");
        now.push(format!("command {name} {}", hex(&bytes)));
    }
    for (name, answer) in answers() {
        let bytes = answer.encode();
        assert_eq!(Answer::decode(&bytes), Ok(answer), "{name}");
        now.push(format!("answer {name} {}", hex(&bytes)));
    }
    for (name, record) in records() {
        let bytes = record.encode();
        assert_eq!(Control::decode(&bytes), Ok(record), "{name}");
        now.push(format!("record {name} {}", hex(&bytes)));
    }
    now.push(format!("spool segment {}", hex(&segment())));
    let frozen: Vec<&str> = FROZEN
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    assert_eq!(now, frozen);
}

#[test]
fn a_later_version_may_say_more_in_its_hello() {
    let [(_, hello), ..] = &requests()[..] else {
        panic!("there is one");
    };
    let [(_, greeting), ..] = &answers()[..] else {
        panic!("there is one");
    };
    let more = |mut bytes: Vec<u8>| {
        bytes.extend_from_slice(b"of later");
        bytes
    };
    assert!(Request::decode(&more(hello.encode())).as_ref() == Ok(hello));
    assert_eq!(
        Answer::decode(&more(greeting.encode())).as_ref(),
        Ok(greeting)
    );
}
