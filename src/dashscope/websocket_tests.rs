use std::cell::RefCell;

use proptest::prelude::*;

use super::*;

const CONTINUATION: u8 = 0;
const TEXT: u8 = 1;
const BINARY: u8 = 2;
const PING: u8 = 9;
const LAST: u8 = 0x80;

/// The form in which a frame's head writes the length: seven bits, two bytes or eight bytes.
#[derive(Debug, Clone, Copy)]
enum Width {
    Short,
    Two,
    Eight,
}

fn frame(first: u8, payload: &[u8], mask: Option<[u8; 4]>, width: Width) -> Vec<u8> {
    let masked = if mask.is_some() { 0x80 } else { 0 };
    let length = payload.len() as u64;
    let mut frame = vec![first];
    match width {
        Width::Short if length < 126 => frame.push(masked | length as u8),
        Width::Short | Width::Two if length <= 0xffff => {
            frame.push(masked | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        Width::Short | Width::Two | Width::Eight => {
            frame.push(masked | 127);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(mask.into_iter().flatten());
    let mask = mask.unwrap_or_default();
    frame.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ mask[at % 4]));
    frame
}

/// A masked frame, as a client sends it.
fn said(first: u8, payload: &[u8]) -> Vec<u8> {
    frame(first, payload, Some([0x37, 0xfa, 0x21, 0x3d]), Width::Short)
}

#[derive(Debug, PartialEq)]
enum TestFault {
    Frame(FrameFault),
    Text,
}

impl From<FrameFault> for TestFault {
    fn from(fault: FrameFault) -> Self {
        TestFault::Frame(fault)
    }
}

/// The bytes that passed, the texts that were checked, and the refusal that ended it. A text with an `x` is refused.
#[derive(Debug, Default, PartialEq)]
struct FrameTrace {
    passed: Vec<u8>,
    texts: Vec<Vec<u8>>,
    refused: Option<TestFault>,
}

fn read_pieces<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> FrameTrace {
    let mut frames = Frames::default();
    let mut trace = FrameTrace::default();
    let texts = RefCell::default();
    let check = |text: &[u8]| {
        RefCell::<Vec<Vec<u8>>>::borrow_mut(&texts).push(text.to_vec());
        if text.contains(&b'x') { Err(TestFault::Text) } else { Ok(()) }
    };
    for piece in pieces {
        if let Err(refused) = frames.read(piece, &mut trace.passed, check) {
            trace.refused = Some(refused);
            break;
        }
    }
    trace.texts = texts.into_inner();
    trace
}

fn read_whole(bytes: &[u8]) -> FrameTrace {
    read_pieces([bytes])
}

#[track_caller]
fn check_refused(frames: &[Vec<u8>], refused: TestFault, passed: &[u8]) {
    let trace = read_whole(&frames.concat());
    assert_eq!((trace.refused, trace.passed), (Some(refused), passed.to_vec()));
}

#[test]
fn the_example_of_the_rfc_is_read() {
    let hello = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
    assert_eq!(said(LAST | TEXT, b"Hello"), hello);
    let trace = read_whole(hello);
    assert_eq!(trace, FrameTrace { passed: hello.to_vec(), texts: vec![b"Hello".to_vec()], refused: None });
}

#[test]
fn a_text_is_held_until_it_is_whole_and_all_else_passes_at_once() {
    let (begun, ping) = (said(TEXT, b"Hel"), said(LAST | PING, b"?"));
    let (more, last) = (said(CONTINUATION, b""), said(LAST | CONTINUATION, b"lo"));
    let mut frames = Frames::default();
    let mut passed = Vec::new();
    let check = |text: &[u8]| if text == b"Hello" { Ok(()) } else { Err(TestFault::Text) };
    for bytes in [&begun[..], &more, &last[..last.len() - 1]] {
        frames.read(bytes, &mut passed, check).unwrap();
        assert_eq!(passed, b"");
    }
    frames.read(&last[last.len() - 1..], &mut passed, check).unwrap();
    assert_eq!(passed, [&begun[..], &more, &last].concat());
    passed.clear();
    frames.read(&[&begun[..], &ping].concat(), &mut passed, check).unwrap();
    assert_eq!(passed, ping);
    frames.read(&last, &mut passed, check).unwrap();
    assert_eq!(passed, [ping, begun, last].concat());
    passed.clear();
    let audio = said(BINARY, &[7; 300]);
    frames.read(&audio[..20], &mut passed, check).unwrap();
    assert_eq!(passed, audio[..20]);
}

#[test]
fn a_refused_text_does_not_pass_and_what_was_ahead_of_it_has() {
    let ahead = [said(LAST | TEXT, b"fine"), said(LAST | BINARY, b"xx")].concat();
    for refused in [
        vec![said(LAST | TEXT, b"x")],
        vec![said(TEXT, b"a"), said(CONTINUATION, b"x"), said(LAST | CONTINUATION, b"b")],
    ] {
        let all = [&ahead[..], &refused.concat(), &said(LAST | TEXT, b"fine")].concat();
        let trace = read_whole(&all);
        assert_eq!((trace.refused, trace.passed), (Some(TestFault::Text), ahead.clone()));
    }
}

#[test]
fn what_rfc_6455_forbids_is_refused() {
    let unmasked = frame(LAST | TEXT, b"a", None, Width::Short);
    check_refused(&[unmasked], TestFault::Frame(FrameFault::Unmasked), b"");
    for first in [0xc1, 0xa1, 0x91, 0x83, 0x87, 0x8b, 0x8f, 0x42] {
        check_refused(&[said(first, b"a")], TestFault::Frame(FrameFault::Reserved), b"");
    }
    let disorder = || TestFault::Frame(FrameFault::Disorder);
    check_refused(&[said(LAST | CONTINUATION, b"a")], disorder(), b"");
    check_refused(&[said(TEXT, b"a"), said(LAST | TEXT, b"a")], disorder(), b"");
    check_refused(&[said(TEXT, b"a"), said(LAST | BINARY, b"a")], disorder(), b"");
    let audio = said(BINARY, b"a");
    check_refused(&[audio.clone(), said(LAST | TEXT, b"a")], disorder(), &audio);
    check_refused(&[said(PING, b"a")], disorder(), b"");
    check_refused(&[said(LAST | PING, &[0; 126])], disorder(), b"");
    check_refused(&[b"\x82\xff\x80\0\0\0\0\0\0\0mask".to_vec()], disorder(), b"");
}

#[test]
fn a_text_has_64_kib_in_however_many_frames() {
    let most = vec![b'a'; 64 * 1024];
    let trace = read_whole(&said(LAST | TEXT, &most));
    assert_eq!((trace.refused, trace.texts), (None, vec![most.clone()]));
    let too_long = || TestFault::Frame(FrameFault::TooLong);
    let one_more = [&most[..], b"a"].concat();
    check_refused(&[said(LAST | TEXT, &one_more)[..14].to_vec()], too_long(), b"");
    check_refused(&[said(TEXT, &most), said(LAST | CONTINUATION, b"a")], too_long(), b"");
    let empty = [vec![said(TEXT, b"")], vec![said(CONTINUATION, b""); 30_000]].concat();
    check_refused(&empty, too_long(), b"");
    // The limit counts for each text message alone, and a binary message has no limit.
    let trace = read_whole(&[said(LAST | TEXT, &most), said(LAST | TEXT, &most)].concat());
    assert_eq!((trace.refused, trace.texts.len()), (None, 2));
    assert_eq!(read_whole(&said(LAST | BINARY, &[0; 1 << 18])).refused, None);
}

#[test]
fn a_close_has_room_for_123_bytes_of_reason() {
    assert_eq!(close(1008, "no"), b"\x88\x04\x03\xf0no");
    assert_eq!(close(1008, &"a".repeat(200)).len(), 2 + 2 + 123);
    let umlauts = close(1008, &format!("a{}", "\u{e9}".repeat(100)));
    assert_eq!((umlauts[1], umlauts.len()), (2 + 123, 2 + 2 + 123));
    let cut = close(1008, &"\u{e9}".repeat(100));
    assert_eq!((cut[1], std::str::from_utf8(&cut[4..]).map(str::len)), (2 + 122, Ok(122)));
}

fn width() -> impl Strategy<Value = Width> {
    prop_oneof![Just(Width::Short), Just(Width::Two), Just(Width::Eight)]
}

fn payload() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..20),
        1 => prop::collection::vec(any::<u8>(), 100..200),
    ]
}

type Parts = Vec<(Vec<u8>, Width)>;

/// The frames of a message or a control frame, with pings between its fragments, all as a client may send them.
fn fine() -> impl Strategy<Value = (u8, Parts, [u8; 4], bool)> {
    let kinds = prop::sample::select(vec![TEXT, BINARY, PING, 10]);
    let parts = prop::collection::vec((payload(), width()), 1..4);
    (kinds, parts, any::<[u8; 4]>(), any::<bool>())
}

/// Any frame. Most frames are valid by themselves; in some, the length does not match the bytes that follow.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let first = prop_oneof![
        6 => prop::sample::select(vec![0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x89, 0x8a, 0x88]),
        1 => any::<u8>(),
    ];
    let mask = prop_oneof![8 => any::<[u8; 4]>().prop_map(Some), 1 => Just(None)];
    (first, payload(), mask, width())
        .prop_map(|(first, payload, mask, width)| frame(first, &payload, mask, width))
}

fn pieces<'a>(mut bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    for length in lengths.iter().cycle() {
        if bytes.is_empty() {
            break;
        }
        let (piece, rest) = bytes.split_at((*length).min(bytes.len()));
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

proptest! {
    #[test]
    fn however_it_is_split_the_verdict_and_what_passes_are_the_same(
        frames in prop::collection::vec(any_frame(), 0..12),
        lengths in prop::collection::vec(1..40_usize, 1..8),
    ) {
        let bytes = frames.concat();
        let whole = read_whole(&bytes);
        prop_assert_eq!(&read_pieces(pieces(&bytes, &lengths)), &whole);
        prop_assert_eq!(&read_pieces(bytes.chunks(1)), &whole);
        for at in 0..bytes.len() {
            prop_assert_eq!(&read_pieces([&bytes[..at], &bytes[at..]]), &whole);
        }
    }

    #[test]
    fn all_that_a_client_may_say_passes_and_every_text_is_judged(
        messages in prop::collection::vec(fine(), 0..6),
        lengths in prop::collection::vec(1..40_usize, 1..8),
    ) {
        let (mut bytes, mut expected) = (Vec::new(), FrameTrace::default());
        for (kind, parts, mask, pings) in messages {
            let ping = frame(LAST | PING, b"p", Some(mask), Width::Short);
            let is_control = kind >= 8;
            let parts: Vec<_> = parts
                .into_iter()
                .map(|(part, width)| (part.into_iter().filter(|byte| *byte != b'x').collect::<Vec<u8>>(), width))
                .take(if is_control { 1 } else { usize::MAX })
                .collect();
            let (mut held, mut text) = (Vec::new(), Vec::new());
            for (at, (part, width)) in parts.iter().enumerate() {
                let part = if is_control { &part[..part.len().min(125)] } else { part };
                let last = if at + 1 == parts.len() { LAST } else { 0 };
                let one = frame(last | if at == 0 { kind } else { CONTINUATION }, part, Some(mask), *width);
                bytes.extend(&one);
                text.extend(part);
                if kind == TEXT { held.extend(one) } else { expected.passed.extend(one) }
                if pings && last == 0 {
                    bytes.extend(&ping);
                    expected.passed.extend(&ping);
                }
            }
            expected.passed.extend(held);
            if kind == TEXT {
                expected.texts.push(text);
            }
        }
        prop_assert_eq!(read_pieces(pieces(&bytes, &lengths)), expected);
    }

    #[test]
    fn a_boundary_is_where_a_frame_ends_and_nowhere_else(
        frames in prop::collection::vec(any_frame(), 1..6),
        lengths in prop::collection::vec(1..40_usize, 1..8),
    ) {
        let bytes = frames.concat();
        let mut ends = vec![0];
        ends.extend(frames.iter().scan(0, |end, frame| { *end += frame.len(); Some(*end) }));
        let (mut boundary, mut at) = (Boundary::default(), 0);
        for piece in pieces(&bytes, &lengths) {
            boundary.pass(piece);
            at += piece.len();
            let next = ends.iter().find(|end| **end >= at).expect("the last");
            prop_assert_eq!(boundary.missing() == 0, *next == at);
            prop_assert!(boundary.missing() <= (next - at) as u64);
        }
    }
}
