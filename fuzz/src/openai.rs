//! Requests and responses of OpenAI's embeddings API.

use base64ct::{Base64, Encoding as _};
use edge_net_core::http::openai::{Encoding, Input, Problem, Request, answer, shorten};
use serde_json::{Map, Value};

/// Input: the body of a request.
///
/// - A request that is read has a model and inputs, none of them empty, and is read again as the
///   same.
/// - The body of the response is JSON that holds the embeddings in order, exact in base64.
/// - A shortened embedding has the components that were asked for, and length 1 or 0.
/// - The body for a bad request is JSON that names the member.
///
/// # Panics
/// When a property does not hold.
pub fn openai(data: &[u8]) {
    match Request::read(data) {
        Ok(request) => {
            assert!(!request.model.is_empty() && !request.inputs.is_empty());
            assert_ne!(request.dimensions, Some(0));
            for input in &request.inputs {
                match input {
                    Input::Text(text) => assert!(!text.is_empty()),
                    Input::Tokens(tokens) => assert!(!tokens.is_empty()),
                }
            }
            assert_eq!(Request::read(&written(&request)).as_ref(), Ok(&request));
            assert_response(&request, data);
        }
        Err(bad) => {
            let param = bad.param();
            let body: Value = serde_json::from_str(&Problem::from(bad).to_json()).expect("JSON");
            assert_eq!(body["error"]["param"].as_str(), param);
            assert_eq!(body["status"], 400);
        }
    }
}

fn written(request: &Request) -> Vec<u8> {
    let inputs: Vec<Value> = request
        .inputs
        .iter()
        .map(|input| match input {
            Input::Text(text) => text.as_str().into(),
            Input::Tokens(tokens) => tokens.clone().into(),
        })
        .collect();
    let encoding = if request.encoding == Encoding::Float { "float" } else { "base64" };
    let mut body = Map::new();
    body.insert("model".into(), request.model.as_str().into());
    body.insert("input".into(), inputs.into());
    body.insert("encoding_format".into(), encoding.into());
    if let Some(dimensions) = request.dimensions {
        body.insert("dimensions".into(), dimensions.into());
    }
    Value::Object(body).to_string().into_bytes()
}

/// Responds with embeddings that are made of the bytes of the request.
fn assert_response(request: &Request, data: &[u8]) {
    let mut embedding: Vec<f32> = data.iter().map(|byte| f32::from(*byte) - 100.0).collect();
    if let Some(dimensions) = request.dimensions {
        let wanted = embedding.len().min(dimensions);
        let shorter = dimensions < embedding.len();
        shorten(&mut embedding, dimensions);
        assert_eq!(embedding.len(), wanted);
        let length: f64 = embedding.iter().map(|value| f64::from(*value).powi(2)).sum();
        assert!(!shorter || length < 1e-9 || (length - 1.0).abs() < 1e-3);
    }
    let embeddings = vec![embedding; request.inputs.len().min(3)];
    let body = answer(&request.model, &embeddings, request.encoding, 7);
    let body: Value = serde_json::from_str(&body).expect("the response is JSON");
    assert_eq!(body["model"], *request.model);
    assert_eq!(body["data"].as_array().map(Vec::len), Some(embeddings.len()));
    for (index, embedding) in embeddings.iter().enumerate() {
        let item = &body["data"][index];
        assert_eq!(item["index"], index);
        if let Some(text) = item["embedding"].as_str() {
            let bytes: Vec<u8> = embedding.iter().flat_map(|value| value.to_le_bytes()).collect();
            assert_eq!(Base64::decode_vec(text), Ok(bytes));
        } else {
            let values = item["embedding"].as_array().expect("an array of numbers");
            assert_eq!(values.len(), embedding.len());
        }
    }
}
