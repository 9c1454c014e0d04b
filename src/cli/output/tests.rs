use super::*;
use crate::cli::ui::capture;
use crate::model::{Event, Outcome, Output, PodName};
use proptest::prelude::*;

fn event(session: u128, kind: EventKind) -> Result<SessionEvent, crate::model::Error> {
    let ulid = Ulid(session);
    Ok(SessionEvent {
        session: SessionId::new(&PodName::new("p")?, ulid),
        ulid,
        event: Event {
            seq: 1,
            run: 0,
            time: Timestamp(0),
            kind,
        },
    })
}

fn piece(stream: Stream, data: &[u8], continued: bool) -> EventKind {
    EventKind::Output(Output {
        stream,
        data: data.to_vec(),
        continued,
    })
}

/// What is printed for pieces of sessions, on a terminal or elsewhere.
fn printed(
    manner: Manner,
    terminal: bool,
    agent: AgentKind,
    pieces: &[(u128, Stream, &[u8], bool)],
) -> Result<(String, String), Failure> {
    let (mut ui, out, err) = capture::ui(terminal);
    let mut printer = Printer::new(manner);
    for (session, stream, data, continued) in pieces {
        printer.hears(Ulid(*session), agent);
        let event = event(*session, piece(*stream, data, *continued))?;
        printer.print(&mut ui, &event)?;
    }
    printer.finish(&mut ui)?;
    Ok((out.text(), err.text()))
}

#[test]
fn each_stream_goes_where_it_belongs() -> Result<(), Failure> {
    let pieces: [(u128, Stream, &[u8], bool); 3] = [
        (1, Stream::Stdout, b"out", false),
        (1, Stream::Stderr, b"bad", false),
        (1, Stream::Stdout, b"\x1b[31mred\x1b[0m", false),
    ];
    let (out, err) = printed(Manner::default(), false, AgentKind::Command, &pieces)?;
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("out\n\x1b[31mred\x1b[0m\n", "bad\n")
    );
    let (out, _) = printed(Manner::default(), true, AgentKind::Command, &pieces)?;
    assert_eq!(out, "out\nred\n", "no sequence reaches a terminal");
    let raw = Manner {
        raw: true,
        ..Manner::default()
    };
    let (out, _) = printed(raw, true, AgentKind::Command, &pieces)?;
    assert_eq!(out, "out\n\x1b[31mred\x1b[0m\n", "unless it was asked for");
    Ok(())
}

#[test]
fn lines_of_several_sessions_do_not_mix() -> Result<(), Failure> {
    let manner = Manner {
        prefix: 10,
        ..Manner::default()
    };
    let (out, _) = printed(
        manner,
        false,
        AgentKind::Command,
        &[
            (1, Stream::Stdout, b"one ", true),
            (1, Stream::Stdout, b"two ", true),
            (2, Stream::Stdout, b"other", false),
            (1, Stream::Stdout, b"three", false),
            (1, Stream::Stdout, b"four", true),
        ],
    )?;
    assert_eq!(
        out,
        "p-00000001 | one two \np-00000002 | other\np-00000001 | three\np-00000001 | four"
    );
    Ok(())
}

#[test]
fn a_prompt_without_a_newline_is_ended_on_a_terminal() -> Result<(), Failure> {
    let pieces: [(u128, Stream, &[u8], bool); 2] = [
        (1, Stream::Stdout, b"password: ", true),
        (1, Stream::Stderr, b"no", false),
    ];
    let (out, err) = printed(Manner::default(), true, AgentKind::Command, &pieces)?;
    assert_eq!((out.as_str(), err.as_str()), ("password: \n", "no\n"));
    Ok(())
}

#[test]
fn a_line_that_is_too_long_is_shown_as_it_is() -> Result<(), Failure> {
    let (mut ui, out, _) = capture::ui(false);
    let mut printer = Printer::new(Manner::default());
    printer.hears(Ulid(1), AgentKind::Claude);
    let half = vec![b'x'; JOIN_MAX];
    for data in [half.as_slice(), b"y"] {
        printer.print(&mut ui, &event(1, piece(Stream::Stdout, data, true))?)?;
    }
    ui.flush()?;
    assert_eq!(out.bytes().len(), JOIN_MAX + 1);
    printer.print(&mut ui, &event(1, piece(Stream::Stdout, b"z", false))?)?;
    printer.print(&mut ui, &event(1, piece(Stream::Stdout, b"next", false))?)?;
    ui.flush()?;
    assert!(out.text().ends_with("xyz\nnext\n"));
    Ok(())
}

proptest! {
    #[test]
    fn however_a_line_is_cut_it_is_shown_whole(
        lines in proptest::collection::vec(proptest::collection::vec(b'a'..=b'z', 0..40), 1..8),
        cut in 1usize..12,
        claude: bool,
    ) {
        let mut pieces: Vec<(u128, Stream, &[u8], bool)> = Vec::new();
        for line in &lines {
            let mut rest = line.as_slice();
            while rest.len() > cut {
                let (head, tail) = rest.split_at(cut);
                pieces.push((1, Stream::Stdout, head, true));
                rest = tail;
            }
            pieces.push((1, Stream::Stdout, rest, false));
        }
        let agent = if claude { AgentKind::Claude } else { AgentKind::Command };
        // What is no JSON has no readable form, so that it is shown as it is.
        let shown = printed(Manner::default(), false, agent, &pieces);
        let shown = shown.map_err(|e| TestCaseError::fail(format!("{e:?}")))?.0;
        let mut whole = String::new();
        for line in &lines {
            whole.push_str(&String::from_utf8_lossy(line));
            whole.push('\n');
        }
        prop_assert_eq!(shown, whole);
    }
}

#[test]
fn what_a_run_used_is_told_at_its_end() -> Result<(), Failure> {
    let ended = EventKind::RunEnded {
        outcome: Outcome::Success,
        why: None,
        usage: Some(crate::model::Usage {
            input: 5000,
            output: 120,
            cost_usd: Some(0.0228),
            ..Default::default()
        }),
        turns: Some(2),
    };
    let told = |manner: Manner, agent: AgentKind| {
        let (mut ui, _, err) = capture::ui(false);
        let mut printer = Printer::new(manner);
        printer.hears(Ulid(1), agent);
        printer.print(&mut ui, &event(1, ended.clone())?)?;
        printer.finish(&mut ui)?;
        Ok::<_, Failure>(err.text())
    };
    let raw = Manner {
        raw: true,
        ..Manner::default()
    };
    let all = Manner {
        beside: Beside::Everything,
        ..Manner::default()
    };
    assert_eq!(
        told(Manner::default(), AgentKind::Codex)?,
        "run 0: 2 turns, 5120 tokens, $0.0228\n"
    );
    let whole = told(all, AgentKind::Codex)?;
    assert!(
        whole.ends_with("ended: success, 2 turns, 5120 tokens, $0.0228\n"),
        "{whole}"
    );
    assert_eq!(told(raw, AgentKind::Codex)?, "");
    assert_eq!(told(Manner::default(), AgentKind::Command)?, "");
    Ok(())
}

#[test]
fn thinking_is_set_back_where_there_are_colours() -> Result<(), Failure> {
    let line = br#"{"type":"assistant","message":{"content":[{"type":"thinking","thinking":"hm\u001b[31m"},{"type":"text","text":"yes"}]}}"#;
    let pieces: [(u128, Stream, &[u8], bool); 1] = [(1, Stream::Stdout, line, false)];
    let (out, _) = printed(Manner::default(), true, AgentKind::Claude, &pieces)?;
    assert_eq!(out, "thinking: hm\nyes\n");
    let (mut ui, out, _) = capture::coloured();
    let mut printer = Printer::new(Manner::default());
    printer.hears(Ulid(1), AgentKind::Claude);
    printer.print(&mut ui, &event(1, piece(Stream::Stdout, line, false))?)?;
    printer.finish(&mut ui)?;
    assert_eq!(out.text(), "\x1b[2mthinking: hm\x1b[0m\nyes\n");
    Ok(())
}
