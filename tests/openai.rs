//! Requests and responses of OpenAI's embeddings API.

use edge_net_core::http::openai::{BadRequest, Encoding, Input, Problem, Request, answer, shorten};
use http::StatusCode;
use proptest::prelude::*;
use serde_json::{Value, json};

fn read(body: &Value) -> Result<Request, BadRequest> {
    Request::read(body.to_string().as_bytes())
}

#[test]
fn the_four_forms_of_input() {
    let inputs =
        |input: Value| read(&json!({ "model": "m", "input": input })).map(|request| request.inputs);
    let text = |text: &str| Input::Text(text.to_owned());
    assert_eq!(inputs(json!("a")), Ok(vec![text("a")]));
    assert_eq!(inputs(json!(["a", "b"])), Ok(vec![text("a"), text("b")]));
    assert_eq!(inputs(json!([1, 2.0])), Ok(vec![Input::Tokens(vec![1, 2])]));
    assert_eq!(
        inputs(json!([[1], [2, 3]])),
        Ok(vec![Input::Tokens(vec![1]), Input::Tokens(vec![2, 3])])
    );
    for bad in [
        json!(""),
        json!([]),
        json!(5),
        json!({}),
        json!([1, "a"]),
        json!([1, [2]]),
        json!([-1]),
        json!([1.5]),
        json!([4_294_967_296_u64]),
        json!([true]),
    ] {
        assert_eq!(inputs(bad.clone()), Err(BadRequest::Input), "{bad}");
    }
    for (bad, at) in [
        (json!([""]), 0),
        (json!([[]]), 0),
        (json!([[["a"]]]), 0),
        (json!(["a", 1]), 1),
        (json!(["a", "b", ""]), 2),
        (json!([[1], "a"]), 1),
        (json!([[1], [-1]]), 1),
    ] {
        let error = inputs(bad.clone()).unwrap_err();
        assert!(error.to_string().starts_with(&format!("input {at}: ")), "{bad}: {error}");
        assert_eq!(error.param(), Some("input"));
    }
}

#[test]
fn the_other_members() {
    let full = json!({
        "model": "m", "input": "a", "encoding_format": "base64", "dimensions": 64,
        "user": "somebody", "other": [],
    });
    let Request { encoding, dimensions, .. } = read(&full).unwrap();
    assert_eq!((encoding, dimensions), (Encoding::Base64, Some(64)));
    let with = |name: &str, value: Value| {
        let mut body = full.clone();
        body[name] = value;
        read(&body).unwrap_err()
    };
    for (name, value) in [
        ("model", json!("")),
        ("model", json!(1)),
        ("encoding_format", json!("hex")),
        ("dimensions", json!(0)),
        ("dimensions", json!(-1)),
        ("dimensions", json!(1.5)),
        ("dimensions", json!("64")),
    ] {
        assert_eq!(with(name, value.clone()).param(), Some(name), "{name}: {value}");
    }
    let bare = read(&json!({ "model": "m", "input": "a" }));
    let nulls = json!({
        "model": "m", "input": "a", "encoding_format": null, "dimensions": null, "user": null,
    });
    assert!(bare.is_ok());
    assert_eq!(read(&nulls), bare);
    assert_eq!(read(&json!({ "model": "m", "input": null })), Err(BadRequest::Missing("input")));
    assert_eq!(read(&json!({ "input": "a" })), Err(BadRequest::Missing("model")));
    assert_eq!(read(&json!({ "model": "m" })), Err(BadRequest::Missing("input")));
    assert_eq!(read(&json!([])), Err(BadRequest::NotObject));
    assert!(matches!(Request::read(b"{\"model\":\"\xff\"}"), Err(BadRequest::NotJson(_))));
}

#[test]
fn the_answer_says_each_number_in_both_encodings() {
    let embeddings = [vec![0.25_f32, -1.0, 1e-8], vec![0.1, 0.2, 0.3]];
    let floats: Value =
        serde_json::from_str(&answer("a \"model\"", &embeddings, Encoding::Float, 7)).unwrap();
    assert_eq!(floats["model"], "a \"model\"");
    assert_eq!(floats["usage"], json!({ "prompt_tokens": 7, "total_tokens": 7 }));
    assert_eq!(floats["data"][1]["index"], 1);
    let of = |n: usize| -> Vec<f32> {
        serde_json::from_value(floats["data"][n]["embedding"].clone()).unwrap()
    };
    assert_eq!([of(0), of(1)], embeddings);
    let encoded: Value =
        serde_json::from_str(&answer("m", &embeddings, Encoding::Base64, 7)).unwrap();
    assert_eq!(encoded["data"][0]["embedding"], "AACAPgAAgL93zCsy");
}

#[test]
fn a_problem_is_openais_error_too() {
    let problem = Problem::new(StatusCode::NOT_FOUND, "there is no model x")
        .about(Some("model"))
        .code("model_not_found");
    let body: Value = serde_json::from_str(&problem.to_json()).unwrap();
    let error = json!({
        "message": "there is no model x", "type": "invalid_request_error",
        "param": "model", "code": "model_not_found",
    });
    assert_eq!(
        body,
        json!({
            "type": "about:blank", "title": "Not Found", "status": 404,
            "detail": "there is no model x", "error": error,
        })
    );
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let _ = Request::read(&body);
    }

    #[test]
    fn what_is_shortened_has_length_1(
        mut embedding in prop::collection::vec(-1.0_f32..1.0, 2..64),
        dimensions in 1_usize..64,
    ) {
        let before = embedding.clone();
        shorten(&mut embedding, dimensions);
        prop_assert_eq!(embedding.len(), dimensions.min(before.len()));
        if dimensions < before.len() && before[..dimensions].iter().any(|value| value.abs() > 1e-3)
        {
            let length: f32 = embedding.iter().map(|value| value * value).sum();
            prop_assert!((length - 1.0).abs() < 1e-5, "{}", length);
        } else if dimensions >= before.len() {
            prop_assert_eq!(embedding, before);
        }
    }
}
