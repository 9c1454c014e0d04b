//! The shim's formats and its pure parts, on anything.

mod released;

use super::bytes::{Put, Take};
use super::channel::{Beside, FromProgram, ToProgram};
use super::crc::crc32c;
use super::redact::Redactor;
use super::sha256::sha256;
use super::spool::{
    self, Control, FRAME_HEADER, FrameHead, HEADER, Kind, Parsed, SegmentHeader, parse, seal,
};
use super::stat;
use super::wire::{self, Answer, Command, Greeting, Request, RunCommand, RunStanding, Standing};
use crate::model::exec;
use proptest::collection::vec;
use proptest::prelude::*;
use sha2::Digest;
use std::fmt;

// Only here: outside of tests nothing should be able to print them, for they
// carry secrets.
impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Request({:?})", self.encode())
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({:?})", self.encode())
    }
}

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    vec(any::<u8>(), 0..200)
}

fn pairs() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
    vec((bytes(), bytes()), 0..4)
}

fn request() -> impl Strategy<Value = Request> {
    prop_oneof![
        (any::<u16>(), any::<u64>()).prop_map(|(version, generation)| Request::Hello {
            version,
            generation
        }),
        (any::<u32>(), any::<u128>(), any::<u64>(), any::<[u8; 32]>()).prop_map(
            |(request, id, total, hash)| Request::Begin {
                request,
                id,
                total,
                hash
            }
        ),
        (any::<u128>(), any::<u64>(), bytes()).prop_map(|(id, position, bytes)| Request::Chunk {
            id,
            position,
            bytes
        }),
        (any::<u32>(), any::<u64>()).prop_map(|(request, upto)| Request::Trim { request, upto }),
        any::<u64>().prop_map(|beyond| Request::Watch { beyond }),
        (any::<u32>(), any::<u32>(), any::<u16>(), any::<u16>()).prop_map(
            |(request, run, rows, columns)| Request::Resize {
                request,
                run,
                rows,
                columns
            }
        ),
        (
            any::<u32>(),
            any::<u32>(),
            any::<u64>(),
            any::<bool>(),
            bytes()
        )
            .prop_map(|(request, run, position, close, bytes)| Request::Input {
                request,
                run,
                position,
                close,
                bytes
            }),
        to_program(),
    ]
}

fn to_program() -> impl Strategy<Value = Request> {
    let begin = (vec(bytes(), 0..4), pairs(), proptest::option::of(bytes()));
    prop_oneof![
        begin.prop_map(|(argv, env, cwd)| {
            Request::Exec(ToProgram::Begin(Beside { argv, env, cwd }))
        }),
        bytes().prop_map(|bytes| Request::Exec(ToProgram::Input(bytes))),
        Just(()).prop_map(|()| Request::Exec(ToProgram::InputEnd)),
        any::<i32>().prop_map(|number| Request::Exec(ToProgram::Signal(number))),
    ]
}

fn from_program() -> impl Strategy<Value = FromProgram> {
    prop_oneof![
        any::<u32>().prop_map(|pid| FromProgram::Started { pid }),
        bytes().prop_map(FromProgram::Output),
        bytes().prop_map(FromProgram::Errors),
        any::<u32>().prop_map(FromProgram::Taken),
        (any::<u8>(), proptest::option::of(1..65i32))
            .prop_map(|(code, signal)| FromProgram::Exited { code, signal }),
        (any::<u8>(), ".*").prop_map(|(code, message)| FromProgram::NotRun { code, message }),
    ]
}

fn command() -> impl Strategy<Value = Command> {
    let files = vec((bytes(), any::<u32>(), bytes()), 0..3);
    let run = (
        (any::<u32>(), vec(bytes(), 0..4), pairs(), pairs(), files),
        proptest::option::of(bytes()),
        bytes(),
        proptest::option::of((any::<u16>(), any::<u16>())),
        (any::<bool>(), any::<bool>()),
    );
    prop_oneof![
        run.prop_map(
            |((run, argv, env, secrets, files), cwd, stdin, tty, (primary, keep_stdin_open))| {
                Command::Run(Box::new(RunCommand {
                    run,
                    argv,
                    env,
                    cwd,
                    stdin,
                    keep_stdin_open,
                    tty,
                    primary,
                    secrets,
                    files,
                }))
            }
        ),
        (any::<u32>(), bytes()).prop_map(|(run, bytes)| Command::Steer { run, bytes }),
        (any::<u32>(), any::<i32>()).prop_map(|(run, signal)| Command::Signal { run, signal }),
        (any::<u32>(), any::<u64>()).prop_map(|(run, grace)| Command::Stop { run, grace }),
    ]
}

fn standing() -> impl Strategy<Value = Standing> {
    prop_oneof![
        Just(Standing::Accepted),
        Just(Standing::Done),
        Just(Standing::Failed)
    ]
}

fn answer() -> impl Strategy<Value = Answer> {
    let run = (any::<u32>(), any::<bool>(), any::<u64>())
        .prop_map(|(run, over, input)| RunStanding { run, over, input });
    let greeting = (
        (any::<u16>(), any::<u128>(), any::<u32>(), any::<u32>()),
        any::<[u8; 16]>(),
        (any::<u64>(), any::<u64>()),
        vec(run, 0..5),
    );
    prop_oneof![
        greeting.prop_map(
            |((version, session, run, attempt), boot, (base, written), runs)| {
                Answer::Hello(Greeting {
                    version,
                    session,
                    run,
                    attempt,
                    boot,
                    base,
                    written,
                    runs,
                })
            }
        ),
        vec((any::<u128>(), standing()), 0..5).prop_map(Answer::Known),
        Just(Answer::Ready),
        (any::<u16>(), any::<u64>()).prop_map(|(version, generation)| Answer::Unwelcome {
            version,
            generation
        }),
        (any::<u32>(), any::<bool>(), ".*").prop_map(|(request, ok, message)| Answer::Reply {
            request,
            ok,
            message
        }),
        any::<u64>().prop_map(|length| Answer::Written { length }),
        any::<u64>().prop_map(|generation| Answer::Displaced { generation }),
        from_program().prop_map(Answer::Exec),
    ]
}

fn control() -> impl Strategy<Value = Control> {
    prop_oneof![
        any::<u128>().prop_map(|id| Control::Accepted { id }),
        (any::<u32>(), any::<u32>()).prop_map(|(run, pid)| Control::Started { run, pid }),
        (any::<u32>(), any::<u8>(), ".{0,80}").prop_map(|(run, code, message)| Control::NotRun {
            run,
            code,
            message
        }),
        (any::<u32>(), any::<u8>(), proptest::option::of(1..65i32))
            .prop_map(|(run, code, signal)| Control::Exited { run, code, signal }),
        (any::<u32>(), any::<bool>()).prop_map(|(run, stderr)| Control::Eof { run, stderr }),
        (any::<u128>(), any::<bool>(), ".{0,80}").prop_map(|(id, ok, message)| Control::Done {
            id,
            ok,
            message
        }),
        (".{0,20}", ".{0,80}").prop_map(|(code, message)| Control::Note { code, message }),
        Just(Control::Finished),
    ]
}

proptest! {
    #[test]
    fn what_is_sent_is_what_is_received(request in request(), answer in answer(), command in command()) {
        prop_assert!(Request::decode(&request.encode()) == Ok(request));
        prop_assert!(Command::decode(&command.encode()) == Ok(command));
        prop_assert_eq!(Answer::decode(&answer.encode()), Ok(answer));
    }

    #[test]
    fn what_a_command_says_is_what_clients_read(said in from_program(), bytes in bytes(), signal: i32) {
        let mut sent = wire::frame(&Answer::Exec(said.clone()).encode());
        let taken = exec::Output::take(&mut sent);
        let expected = match said {
            FromProgram::Output(bytes) => Ok(Some(exec::Output::Stdout(bytes))),
            FromProgram::Errors(bytes) => Ok(Some(exec::Output::Stderr(bytes))),
            FromProgram::Taken(count) => Ok(Some(exec::Output::Taken(count))),
            FromProgram::Exited { code, signal } => Ok(Some(exec::Output::Exited { code, signal })),
            // Those are the daemon's to read.
            FromProgram::Started { .. } | FromProgram::NotRun { .. } => Err(exec::Malformed),
        };
        prop_assert_eq!(taken, expected);
        for (input, expected) in [
            (exec::Input::Bytes(&bytes), ToProgram::Input(bytes.clone())),
            (exec::Input::End, ToProgram::InputEnd),
            (exec::Input::Signal(signal), ToProgram::Signal(signal)),
        ] {
            prop_assert!(input.frame() == wire::frame(&Request::Exec(expected).encode()));
        }
    }

    #[test]
    fn what_is_cut_short_is_refused(command in command(), control in control(), cut in 1usize..20) {
        // A steer's bytes may be cut anywhere: its hash is what guards them.
        if !matches!(command, Command::Steer { .. }) {
            let encoded = command.encode();
            let less = encoded.len().saturating_sub(cut);
            prop_assert!(Command::decode(&encoded[..less]).is_err());
        }
        let encoded = control.encode();
        let less = encoded.len().saturating_sub(cut);
        prop_assert!(Control::decode(&encoded[..less]).is_err());
    }

    #[test]
    fn arbitrary_bytes_are_decoded_or_refused(bytes in vec(any::<u8>(), 0..600), kind in 0u8..16) {
        let mut led = bytes.clone();
        led.insert(0, kind);
        for bytes in [&bytes, &led] {
            let _ = Request::decode(bytes);
            let _ = Answer::decode(bytes);
            let _ = Command::decode(bytes);
            let _ = Control::decode(bytes);
            let _ = SegmentHeader::decode(bytes);
            let _ = parse(bytes);
            let _ = stat::parse(bytes);
            let _ = exec::Output::take(&mut bytes.clone());
            let mut take = Take::new(bytes);
            while take.bytes().is_ok() {}
        }
    }

    #[test]
    fn frames_are_read_back_and_any_changed_bit_is_found(
        payload in bytes(), run: u32, position: u64, time: i64, stderr: bool, redacted: bool,
        is_control: bool, at: usize, bit in 0u8..8,
    ) {
        let kind = if is_control { Kind::Control } else { Kind::Output { stderr, redacted } };
        let head = FrameHead { kind, run, position, time };
        let mut frame = vec![0; FRAME_HEADER];
        frame.extend_from_slice(&payload);
        seal(&mut frame, &head);
        prop_assert_eq!(parse(&frame), Parsed::Frame(head, &payload[..], frame.len()));
        prop_assert!(matches!(parse(&frame[..frame.len() - 1]), Parsed::Incomplete(_)));
        let at = at % frame.len();
        frame[at] ^= 1 << bit;
        prop_assert!(!matches!(parse(&frame), Parsed::Frame(..)));
    }

    #[test]
    fn control_records_and_headers_are_read_back(
        control in control(), number: u32, session: u128, run: u32, attempt: u32,
        boot: [u8; 16], base: u64, ordinal: u64, at in 0..HEADER, bit in 0u8..8,
    ) {
        prop_assert_eq!(Control::decode(&control.encode()), Ok(control));
        let header = SegmentHeader { number, session, run, attempt, boot, base, ordinal };
        let mut encoded = header.encode();
        prop_assert_eq!(encoded.len(), HEADER);
        prop_assert_eq!(SegmentHeader::decode(&encoded), Ok(header));
        encoded[at] ^= 1 << bit;
        prop_assert!(SegmentHeader::decode(&encoded).is_err());
    }

    #[test]
    fn sums_and_hashes_are_those_of_others(bytes in vec(any::<u8>(), 0..1000)) {
        prop_assert_eq!(crc32c(&bytes), ::crc32c::crc32c(&bytes));
        prop_assert_eq!(sha256(&bytes), <[u8; 32]>::from(sha2::Sha256::digest(&bytes)));
    }

    #[test]
    fn redaction_does_not_depend_on_how_the_stream_is_cut(
        text in vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'\n')], 0..120),
        secrets in vec(vec(prop_oneof![Just(b'a'), Just(b'b'), Just(b'\n')], 1..6), 0..4),
        cuts in vec(0usize..120, 0..12),
    ) {
        let mut redactor = Redactor::default();
        for secret in &secrets {
            redactor.add(b"S", secret);
        }
        let mut whole = Vec::new();
        let marked = redactor.feed(&mut Vec::new(), &text, true, &mut whole);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| *cut % (text.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut pieces, mut held, mut begin, mut any) = (Vec::new(), Vec::new(), 0, false);
        let longest = secrets.iter().map(Vec::len).max().unwrap_or(0) * 2;
        for cut in cuts {
            any |= redactor.feed(&mut held, &text[begin..cut], false, &mut pieces);
            prop_assert!(held.len() <= longest);
            begin = cut;
        }
        any |= redactor.feed(&mut held, &text[begin..], true, &mut pieces);
        prop_assert!(held.is_empty());
        prop_assert_eq!(&pieces, &whole);
        prop_assert_eq!(any, marked);
        // Between what was replaced no secret is left.
        for plain in String::from_utf8_lossy(&whole).split("[redacted:S]") {
            for secret in &secrets {
                let secret = String::from_utf8_lossy(secret);
                prop_assert!(!plain.contains(&*secret));
            }
        }
    }
}

#[test]
fn secrets_are_found_as_json_and_terminals_write_them() {
    let mut redactor = Redactor::default();
    redactor.add(b"KEY", b"line \"1\"\nline 2");
    let said = "{\"a\":\"line \\\"1\\\"\\nline 2\"} line \"1\"\r\nline 2!";
    assert_eq!(
        redactor.text(said),
        "{\"a\":\"[redacted:KEY]\"} [redacted:KEY]!"
    );
}

#[test]
fn segments_are_named_by_their_numbers() {
    for number in [0, 7, 9999, 10_000, u32::MAX] {
        let name = spool::segment_name(number);
        assert_eq!(spool::segment_number(&name), Some(number));
    }
    for other in [
        "spool.",
        "spool.1",
        "spool.00001",
        "spool.+001",
        "spool.-1",
        "x",
    ] {
        assert_eq!(spool::segment_number(other), None, "{other}");
    }
}

#[test]
fn a_process_may_have_any_name() {
    let stat = b"42 (a) R 1 (b) S 7 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 9876 1 1\n";
    let process = stat::parse(stat).unwrap();
    assert_eq!(
        (process.parent, process.start, process.zombie),
        (7, 9876, false)
    );
}

#[test]
fn texts_are_cut_at_a_character() {
    let control = Control::Note {
        code: "long".to_owned(),
        message: "é".repeat(spool::TEXT_MAX),
    };
    let Ok(Control::Note { message, .. }) = Control::decode(&control.encode()) else {
        panic!("it is no note");
    };
    assert_eq!(message.len(), spool::TEXT_MAX);
    let mut bytes = Vec::new();
    bytes.put_bytes(b"x");
    assert_eq!(Take::new(&bytes).count(1), Ok(1));
}
