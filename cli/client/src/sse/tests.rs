//! Tests of the decoder: the standard's cases, bounds, and any bytes in any chunks.

use proptest::prelude::*;

use super::*;

fn decode(chunks: &[&[u8]]) -> Result<Vec<SseBlock>, SseError> {
    let mut decoder = Decoder::default();
    let mut blocks = VecDeque::new();
    for chunk in chunks {
        decoder.push(chunk, &mut blocks)?;
    }
    Ok(blocks.into())
}

fn block(id: Option<&str>, event: Option<&str>, data: Option<&str>) -> SseBlock {
    SseBlock { id: id.map(Into::into), event: event.map(Into::into), data: data.map(Into::into) }
}

#[test]
fn text_is_cut_into_blocks() {
    let text = b": chatd\nid: 0000002a-7\n\n:\n\nevent: message\nid: 0000002a-8\ndata: {}\n\n";
    let expected = vec![block(Some("0000002a-7"), None, None), block(Some("0000002a-8"), Some("message"), Some("{}"))];
    assert_eq!(decode(&[text]), Ok(expected));
}

#[test]
fn every_kind_of_line_end_is_one() {
    for text in
        ["data:a\ndata: b\n\n", "data:a\r\ndata: b\r\n\r\n", "data:a\rdata: b\r\r", "\u{FEFF}data:a\ndata: b\r\n\n"]
    {
        assert_eq!(decode(&[text.as_bytes()]), Ok(vec![block(None, None, Some("a\nb"))]), "{text:?}");
    }
}

#[test]
fn one_space_is_cut_and_unknown_fields_are_skipped() {
    let text = b"data:  two\nretry: 10\nwhat\nid: a\0b\ndata\n\n";
    assert_eq!(decode(&[text]), Ok(vec![block(None, None, Some(" two\n"))]));
}

#[test]
fn unfinished_block_is_not_given_out() {
    assert_eq!(decode(&[b"id: 1\ndata: x\n"]), Ok(vec![]));
}

#[test]
fn line_or_data_that_is_too_long_is_refused() {
    let long = vec![b'x'; LINE_BYTES_MAX];
    assert_eq!(decode(&[&long]), Ok(vec![]));
    assert_eq!(decode(&[&long, b"x"]), Err(SseError::LineTooLong));
    let mut line = b"data:".to_vec();
    line.resize(LINE_BYTES_MAX, b'x');
    line.push(b'\n');
    assert_eq!(decode(&[&line, &line]), Ok(vec![]));
    assert_eq!(decode(&[&line, &line, &line]), Err(SseError::DataTooLong));
}

fn encode(block: &SseBlock) -> String {
    let mut text = String::new();
    if let Some(id) = &block.id {
        text += &format!("id: {id}\n");
    }
    if let Some(event) = &block.event {
        text += &format!("event: {event}\n");
    }
    for line in block.data.iter().flat_map(|data| data.split('\n')) {
        text += &format!("data: {line}\n");
    }
    text + "\n"
}

proptest! {
    #[test]
    fn block_survives_any_cut(
        blocks in prop::collection::vec(("[a-z0-9-]{1,8}", prop::option::of("[a-z]{1,6}"), prop::option::of("[^\r\0]{0,40}")), 0..8),
        cuts in prop::collection::vec(1..20_usize, 1..40),
    ) {
        let blocks: Vec<SseBlock> =
            blocks.into_iter().map(|(id, event, data)| SseBlock { id: Some(id), event, data }).collect();
        let text: String = blocks.iter().map(encode).collect();
        let mut rest = text.as_bytes();
        let mut chunks = Vec::new();
        for cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, tail) = rest.split_at((*cut).min(rest.len()));
            chunks.push(chunk);
            rest = tail;
        }
        prop_assert_eq!(decode(&chunks), Ok(blocks));
    }

    #[test]
    fn bytes_decode_the_same_in_any_chunks(bytes: Vec<u8>, cut in 0..64_usize) {
        let (left, right) = bytes.split_at(cut.min(bytes.len()));
        prop_assert_eq!(decode(&[&bytes]), decode(&[left, right]));
    }
}
