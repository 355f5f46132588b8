//! Stop sequences in streams of text.

use edge_net_language::stop::StopSequences;
use proptest::prelude::*;

/// Where the first sequence to be complete cuts the text, computed plainly.
fn cut<'a>(text: &'a str, stops: &[String]) -> &'a str {
    let ends = text.char_indices().map(|(at, char)| at + char.len_utf8());
    for end in ends {
        let starts = stops.iter().filter(|stop| text[..end].ends_with(stop.as_str()));
        if let Some(start) = starts.map(|stop| end - stop.len()).min() {
            return &text[..start];
        }
    }
    text
}

proptest! {
    #[test]
    fn streams_are_cut_as_the_whole(
        pieces in proptest::collection::vec("[abé]{0,4}", 0..12),
        stops in proptest::collection::vec("[abé]{1,4}", 0..4),
    ) {
        let mut stream = StopSequences::new(stops.clone()).expect("valid");
        let mut text: String = pieces.iter().map(|piece| stream.push(piece)).collect();
        let whole = pieces.concat();
        let expected = cut(&whole, &stops);
        prop_assert_eq!(stream.matched().is_some(), expected.len() < whole.len());
        text.push_str(&stream.finish());
        prop_assert_eq!(text, expected);
    }
}

#[test]
fn only_possible_beginnings_are_held_back() {
    let mut stream = StopSequences::new(vec!["</s>".into(), "\n\nUser:".into()]).expect("valid");
    assert_eq!(stream.push("Hi <"), "Hi ");
    assert_eq!(stream.push("b> \n"), "<b> ");
    assert_eq!(stream.push("\nUse"), "");
    assert_eq!(stream.push("d"), "\n\nUsed");
    assert_eq!(stream.push("<</"), "<");
    assert_eq!(stream.push("s> more"), "");
    assert_eq!(stream.matched(), Some("</s>"));
    assert_eq!(stream.push("x"), "");
    assert_eq!(stream.finish(), "");
}

#[test]
fn limits_are_named() {
    let error = StopSequences::new(vec![String::new()]).expect_err("empty").to_string();
    assert_eq!(error, "stop is a text of 0 bytes; it has to be of 1 to 1024 bytes");
    let error = StopSequences::new(vec!["x".into(); 17]).expect_err("many").to_string();
    assert_eq!(error, "stop is a list of 17; it has to be a list of at most 16");
}
