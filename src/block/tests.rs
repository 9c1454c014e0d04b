use super::*;
use crate::model::Blob;
use proptest::prelude::*;

fn encode(events: &[Event]) -> Vec<Encoded> {
    let mut encoder = Encoder::new();
    for event in events {
        let body = body(&event.kind).unwrap();
        encoder.push(event_ref(event, &body));
    }
    encoder.finish()
}

fn decode(blocks: &[Encoded]) -> Vec<Event> {
    let mut events = Vec::new();
    for encoded in blocks {
        let block = Block::decode(&encoded.bytes).unwrap();
        assert_eq!(block.header(), &encoded.header);
        assert_eq!(block.header().size(), encoded.bytes.len());
        let before = events.len();
        for event in block.events() {
            events.push(event.unwrap().to_event().unwrap());
        }
        let own: &[Event] = &events[before..];
        assert_eq!(own[0].seq, block.header().first_seq);
        assert_eq!(own[0].time, block.header().first_time);
        assert_eq!(own[own.len() - 1].seq, block.header().last_seq());
        assert_eq!(own[own.len() - 1].time, block.header().last_time);
    }
    events
}

fn kind() -> impl Strategy<Value = EventKind> {
    let data = prop_oneof![
        proptest::collection::vec(any::<u8>(), 0..60),
        "[a-z ]{0,80}".prop_map(String::into_bytes),
        (any::<u8>(), 0usize..=65_536).prop_map(|(byte, len)| vec![byte; len]),
    ];
    prop_oneof![
        8 => (data, any::<bool>(), any::<bool>()).prop_map(|(data, err, continued)| {
            let stream = if err { Stream::Stderr } else { Stream::Stdout };
            EventKind::Output(Output { stream, data, continued })
        }),
        1 => proptest::collection::vec(any::<u8>(), 0..40)
            .prop_map(|line| EventKind::BuildOutput { line: Blob(line) }),
        1 => ".{0,20}".prop_map(|message| EventKind::Note { code: "gap".into(), message }),
    ]
}

pub(crate) fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = (kind(), 0u32..3, any::<i64>());
    (1u64..1 << 40, proptest::collection::vec(one, 1..40)).prop_map(|(first, list)| {
        list.into_iter()
            .zip(first..)
            .map(|((kind, run, time), seq)| Event {
                seq,
                run,
                time: Timestamp(time),
                kind,
            })
            .collect()
    })
}

fn line(seq: u64, data: Vec<u8>) -> Event {
    Event {
        seq,
        run: 0,
        time: Timestamp(1_700_000_000_000_000_000 + seq as i64),
        kind: EventKind::Output(Output {
            stream: Stream::Stdout,
            data,
            continued: false,
        }),
    }
}

/// Bytes that do not compress.
fn noise(len: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    })
    .take(len)
    .collect()
}

/// A block around an arbitrary payload, with a right checksum.
fn forge(codec: u8, count: u32, raw_len: u32, payload: &[u8]) -> Vec<u8> {
    let mut header = Header {
        count,
        first_seq: 1,
        first_time: Timestamp(0),
        last_time: Timestamp(0),
        codec,
        raw_len,
        stored_len: payload.len() as u32,
        crc: 0,
    };
    let crc = crc32c::crc32c(&header.to_bytes()[..HEADER_LEN - 4]);
    header.crc = crc32c::crc32c_append(crc, payload);
    [&header.to_bytes(), payload].concat()
}

fn read_all(bytes: &[u8]) {
    if let Ok(block) = Block::decode(bytes) {
        let read = block.events().count();
        assert!(read <= block.header().count as usize);
        for event in block.events().flatten() {
            let _ = event.to_event();
        }
    }
}

proptest! {
    #[test]
    fn events_survive(events in events()) {
        prop_assert_eq!(decode(&encode(&events)), events);
    }

    #[test]
    fn arbitrary_bytes_are_survived(bytes: Vec<u8>) {
        read_all(&bytes);
        read_all(&[MAGIC.as_slice(), &[FORMAT], &bytes].concat());
    }

    #[test]
    fn forged_blocks_are_survived(codec in 0u8..3, count: u32, small in 0u32..9, raw_len: u32, payload: Vec<u8>) {
        read_all(&forge(codec, count, raw_len, &payload));
        read_all(&forge(CODEC_NONE, small, payload.len() as u32, &payload));
        let frame = zstd::bulk::compress(&payload, 1)?;
        read_all(&forge(CODEC_ZSTD, small, raw_len, &frame));
        read_all(&forge(CODEC_ZSTD, small, payload.len() as u32, &frame));
    }

    #[test]
    fn every_flipped_bit_is_found(events in events(), at: prop::sample::Index, bit in 0u8..8) {
        for encoded in encode(&events) {
            let mut bytes = encoded.bytes;
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
            prop_assert!(Block::decode(&bytes).is_err());
        }
    }

    #[test]
    fn every_cut_is_found(events in events(), at: prop::sample::Index) {
        for encoded in encode(&events) {
            let cut = at.index(encoded.bytes.len());
            prop_assert!(Block::decode(&encoded.bytes[..cut]).is_err());
            let longer = [encoded.bytes.as_slice(), b"x"].concat();
            prop_assert!(Block::decode(&longer).is_err());
        }
    }
}

#[test]
fn a_full_block_is_cut() {
    let many: Vec<Event> = (1..=10_000).map(|seq| line(seq, b"x".to_vec())).collect();
    let blocks = encode(&many);
    assert_eq!(blocks.len(), 3);
    assert_eq!(decode(&blocks), many);

    let large: Vec<Event> = (1..=9).map(|seq| line(seq, noise(65_536))).collect();
    let blocks = encode(&large);
    assert_eq!(blocks.len(), 3);
    assert!(blocks.iter().all(|b| b.header.raw_len() <= RAW_FULL));
    assert_eq!(decode(&blocks), large);
}

#[test]
fn a_huge_event_has_a_block_of_its_own() {
    let events = vec![
        line(1, b"before".to_vec()),
        line(2, noise(3 * RAW_FULL)),
        line(3, b"after".to_vec()),
    ];
    let blocks = encode(&events);
    assert_eq!(blocks.len(), 3);
    assert_eq!(decode(&blocks), events);
}

#[test]
fn lines_of_a_log_become_small() {
    let log: Vec<Event> = (1..=4_096)
        .map(|seq| {
            line(
                seq,
                format!("[{seq:>8}] compiling module number {seq} of many, ok").into_bytes(),
            )
        })
        .collect();
    let blocks = encode(&log);
    assert_eq!(blocks.len(), 1);
    assert!(blocks[0].bytes.len() * 3 < blocks[0].header.raw_len());
}

#[test]
fn a_newer_format_is_named() {
    let mut bytes = encode(&[line(1, Vec::new())]).remove(0).bytes;
    bytes[4] = 2;
    assert_eq!(Block::decode(&bytes).unwrap_err(), BlockError::Format(2));
}

#[test]
fn bytes_after_the_last_event_are_told() {
    let payload = [TAG_STDOUT | TAG_SAME_RUN, 0, 0, 7];
    let bytes = forge(CODEC_NONE, 1, 4, &payload);
    let block = Block::decode(&bytes).unwrap();
    let events: Vec<_> = block.events().collect();
    assert_eq!(events, vec![Err(BlockError::Event(1))]);
}
