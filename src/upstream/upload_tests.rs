use super::*;
use crate::upstream::BufferBudget;
use crate::upstream::buffer_budget::SMALL_PIECE;
use http_body_util::BodyExt;

fn upload(pieces: &[&'static [u8]], keep: Keep) -> Upload {
    let pieces: VecDeque<Bytes> = pieces.iter().map(|piece| Bytes::from_static(piece)).collect();
    let stopwatch = Rc::new(Stopwatch::begin(std::time::Instant::now()));
    Upload::of(UploadSource::Kept(pieces), false, u64::MAX, Patience::new(Duration::ZERO, 0), keep, stopwatch)
}

async fn sent(upload: Upload) -> Vec<u8> {
    upload.collect().await.expect("a body").to_bytes().to_vec()
}

#[tokio::test]
async fn a_body_goes_up_as_often_as_it_must() {
    let mut first = upload(&[b"one", b"two", b"three"], Keep::Whole);
    assert_eq!(first.read_ahead(4, |_| false).await, Ok(false));
    assert_eq!(first.ahead(), b"onetwo");
    assert_eq!(first.size_hint().exact(), Some(11));
    let progress = first.progress();
    assert!(progress.again().is_none());
    assert_eq!(sent(first).await, b"onetwothree");
    for _ in 0..2 {
        let again = progress.again().expect("kept");
        assert_eq!(again.size_hint().exact(), Some(11));
        let next = again.progress();
        assert_eq!(sent(again).await, b"onetwothree");
        assert!(next.is_finished());
    }
    progress.forget();
    assert!(progress.again().is_none());
}

#[tokio::test]
async fn of_a_large_body_the_beginning_is_kept() {
    static LARGE: [u8; WHOLE_BYTES] = [b'x'; WHOLE_BYTES];
    for (pieces, keep, fits) in [
        (&[&LARGE[..]][..], Keep::Whole, true),
        (&[b"ab", &LARGE], Keep::Whole, false),
        (&[b"ab", &LARGE, b"cd"], Keep::Whole, false),
        (&[b"ab", b"cd"], Keep::Beginning, true),
        (&[b"ab", &LARGE, b"cd"], Keep::Beginning, false),
    ] {
        let upload = upload(pieces, keep);
        let progress = upload.progress();
        let whole = sent(upload).await;
        assert_eq!(progress.again().is_some(), fits);
        assert_eq!(progress.beginning(usize::MAX), whole[..whole.len().min(BEGINNING_BYTES)]);
        let kept: usize = progress.kept.borrow().iter().map(Bytes::len).sum();
        assert!(kept <= WHOLE_BYTES);
    }
}

#[tokio::test]
async fn the_model_is_known_wherever_it_stands() {
    let long = "x".repeat(3 * BEGINNING_BYTES);
    for body in [
        format!(r#"{{"model":"wan","input":"{long}","model":"other"}}"#),
        format!(r#"{{"input":"{long}","model":"wan","parameters":{{}}}}"#),
        format!(r#"{{"input":"{}","model":"wan"}}"#, &long[..BEGINNING_BYTES - 20]),
    ] {
        for piece_bytes in [1, 1000, BEGINNING_BYTES, usize::MAX] {
            let pieces: VecDeque<Bytes> =
                body.as_bytes().chunks(piece_bytes).map(Bytes::copy_from_slice).collect();
            let upload = Upload::ours(pieces);
            let progress = upload.progress();
            assert_eq!(sent(upload).await, body.as_bytes());
            assert_eq!(progress.model().as_deref(), Some("wan"), "{piece_bytes}");
        }
    }
}

#[tokio::test]
async fn the_last_of_several_models_is_the_one_that_is_paid_for() {
    let long = "x".repeat(3 * BEGINNING_BYTES);
    for (body, expected) in [
        (format!(r#"{{"model":"cheap","input":"{long}","model":"dear"}}"#), Some("dear")),
        (format!(r#"{{"model":"cheap","input":"{long}","mod\u0065l":"dear"}}"#), Some("dear")),
        (format!(r#"{{"model":"cheap","input":"{long}","more":{{"model":"no"}}}}"#), Some("cheap")),
        (r#"{"model":"cheap","model":"dear"}"#.to_owned(), Some("dear")),
    ] {
        for piece_bytes in [1, 1000, usize::MAX] {
            let pieces: VecDeque<Bytes> =
                body.as_bytes().chunks(piece_bytes).map(Bytes::copy_from_slice).collect();
            let upload = Upload::ours(pieces);
            let progress = upload.progress();
            progress.seek_last_model();
            assert_eq!(sent(upload).await, body.as_bytes());
            assert_eq!(progress.model().as_deref(), expected, "{piece_bytes}");
        }
    }
}

#[tokio::test]
async fn a_body_is_read_to_its_model_as_far_as_there_is_room() {
    let long = "x".repeat(BEGINNING_BYTES);
    let body = format!(r#"{{"input":"{long}{long}","model":"wan","more":"{long}"}}"#);
    let body = || Upload::ours(body.as_bytes().chunks(1000).map(Bytes::copy_from_slice));
    for (room, read, model) in
        [(1 << 20, 33_000, Some("wan")), (17 * (1000 + PIECE_BYTES) as u64 + 5000, 21_000, None)]
    {
        let mut upload = body();
        upload.budget_share = Some(BudgetShare::nothing(&BufferBudget::new(room)));
        assert_eq!(upload.read_ahead(BEGINNING_BYTES, |_| false).await, Ok(false));
        assert_eq!(upload.read_to_model().await, Ok(()));
        assert_eq!(upload.progress().model().as_deref(), model);
        assert_eq!(upload.ahead().len(), read);
        let progress = upload.progress();
        sent(upload).await;
        assert_eq!(progress.model().as_deref(), Some("wan"));
    }
    let mut coded = Upload::ours(vec![Bytes::from_static(&[0x1f; 20_000]); 9]);
    assert_eq!(coded.read_ahead(BEGINNING_BYTES, |_| false).await, Ok(false));
    assert_eq!(coded.read_to_model().await, Ok(()));
    assert_eq!(coded.ahead().len(), 20_000, "what is no JSON names no model");
}

#[tokio::test]
async fn a_body_is_kept_as_far_as_there_is_room() {
    for (room, kept_whole) in [(1 << 20, true), (50_000, false)] {
        let budget = BufferBudget::new(room);
        let piece = Bytes::from_static(&[b'x'; 20_000]);
        let mut upload = Upload::ours(vec![piece; 3]);
        upload.keep = Keep::Whole;
        let progress = upload.progress();
        progress.kept_share.replace(Some(BudgetShare::nothing_of(&budget, &"one".into())));
        assert_eq!(sent(upload).await.len(), 60_000);
        assert_eq!(progress.again().is_some(), kept_whole);
        progress.forget();
        assert!(BudgetShare::nothing(&budget).grow(room), "all is given back");
    }
}

#[tokio::test]
async fn a_body_beyond_its_bound_or_its_room_is_not_read_whole() {
    let body = || Upload::ours(vec![Bytes::from_static(&[b'x'; 20_000]); 3]);
    assert_eq!(body().read_whole(60_000).await, Ok(true));
    assert_eq!(body().read_whole(59_999).await, Ok(false));
    let mut upload = body();
    upload.budget_share = Some(BudgetShare::nothing(&BufferBudget::new(50_000)));
    assert_eq!(upload.read_whole(usize::MAX).await, Err(UploadFault::OverBudget));
}

/// Bodies that came byte by byte held a buffer of 8 KiB for each byte.
#[tokio::test]
async fn small_pieces_hold_nothing_but_themselves() {
    for keep in [Keep::Beginning, Keep::Whole] {
        let buffer = Bytes::from(vec![b'x'; 2 * BEGINNING_BYTES]);
        let mut upload = Upload::ours((0..BEGINNING_BYTES + 9).map(|at| buffer.slice(at..=at)));
        upload.keep = keep;
        let progress = upload.progress();
        assert_eq!(upload.read_ahead(100, |_| false).await, Ok(false));
        assert_eq!(upload.pieces().len(), 100);
        assert_eq!(sent(upload).await, buffer[..BEGINNING_BYTES + 9]);
        assert!(progress.kept.borrow().len() <= MOST_OF_BEGINNING + 9);
        assert_eq!(progress.beginning(usize::MAX), buffer[..BEGINNING_BYTES]);
        assert_eq!(progress.again().is_some(), keep == Keep::Whole);
        assert!(buffer.is_unique(), "what is kept holds the buffer");
    }
    let buffer = Bytes::from(vec![b'x'; SMALL_PIECE]);
    let alone = Upload::ours([buffer.slice(..9)]);
    let progress = alone.progress();
    assert_eq!(sent(alone).await, buffer[..9]);
    assert!(!buffer.is_unique(), "a small body in one piece is not copied");
    progress.forget();
}
