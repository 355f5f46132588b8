//! A small BERT as different exporters write it, compared with tract alone.

mod bert;

use bert::{Bert, LAYERS, Style, WIDTH, Weights, all_ours};
use edge_net_inference::{Model, ModelError, ModelReader};
use proptest::prelude::*;
use prost::Message;
use tract_onnx::pb::ModelProto;
use tract_onnx::prelude::*;

const TOKENS: [u32; 14] = [1, 5, 99, 3, 3, 42, 17, 2, 60, 61, 7, 8, 9, 0];

fn read(bytes: &[u8]) -> Result<Model, ModelError> {
    let mut reader = ModelReader::new(bytes.len() as u64);
    reader.push(bytes)?;
    reader.finish()
}

/// The output of tract alone for the same file.
fn by_tract(bytes: &[u8], tokens: &[u32]) -> Vec<f32> {
    let model = tract_onnx::onnx().model_for_read(&mut &*bytes).unwrap();
    let inputs = [0, 1, 2].map(|input| {
        let values = tokens.iter().map(|token| [i64::from(*token), 1, 0][input]);
        Tensor::from(
            tract_ndarray::Array2::from_shape_vec((1, tokens.len()), values.collect()).unwrap(),
        )
    });
    let mut model = model;
    for at in 0..3 {
        model
            .set_input_fact(at, InferenceFact::dt_shape(i64::datum_type(), [1, tokens.len()]))
            .unwrap();
    }
    let plan = model.into_typed().unwrap().into_runnable().unwrap();
    let out = plan.run(inputs.into_iter().map(IntoTValue::into_tvalue).collect()).unwrap();
    out[0].try_as_plain_ram().unwrap().as_slice::<f32>().unwrap().to_vec()
}

fn furthest(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn all_exporters_are_recognized_with_the_result_of_tract() {
    for style in [Style::Dynamo, Style::Script] {
        for weights in [Weights::Cast, Weights::Dequantized, Weights::Unsigned, Weights::Dynamic] {
            let bytes = Bert::bytes(weights, style);
            let model = read(&bytes).unwrap();
            assert_eq!(model.width(), WIDTH);
            let mut ours = model.operators();
            ours.retain(|name, _| all_ours().contains_key(name));
            assert_eq!(ours, all_ours(), "{weights:?}, {style:?}: {:?}", model.operators());
            assert!(
                !model
                    .operators()
                    .keys()
                    .any(|name| name.contains("MatMul") || name.contains("EinSum")),
                "{weights:?}, {style:?}"
            );
            let far = furthest(&model.run(&TOKENS, 1).unwrap(), &by_tract(&bytes, &TOKENS));
            // Both round to bytes, but values near the middle of two may go either way.
            let bound = if weights == Weights::Dynamic { 0.08 } else { 2e-3 };
            assert!(far < bound, "{weights:?}, {style:?}: {far}");
        }
    }
}

#[test]
fn float_products_are_left_to_tract() {
    let bytes = Bert::bytes(Weights::Floats, Style::Script);
    let model = read(&bytes).unwrap();
    assert_eq!(model.operators().get("LayerNorm"), Some(&(2 * LAYERS + 1)));
    assert_eq!(model.operators().get("Linear8"), None);
    let far = furthest(&model.run(&TOKENS, 1).unwrap(), &by_tract(&bytes, &TOKENS));
    assert!(far < 1e-4, "{far}");
}

#[test]
fn a_sequence_does_not_depend_on_others_in_the_batch() {
    for weights in [Weights::Cast, Weights::Dynamic] {
        let model = read(&Bert::bytes(weights, Style::Dynamo)).unwrap();
        let other: Vec<u32> = TOKENS.iter().rev().copied().collect();
        let both = model.run(&[&TOKENS[..], &other].concat(), 2).unwrap();
        assert_eq!(both[..TOKENS.len() * WIDTH], model.run(&TOKENS, 1).unwrap());
        assert_eq!(both[TOKENS.len() * WIDTH..], model.run(&other, 1).unwrap());
    }
}

#[test]
fn unknown_tokens_and_positions_are_errors() {
    let model = read(&Bert::bytes(Weights::Cast, Style::Dynamo)).unwrap();
    let error = model.run(&[1, 100], 1).unwrap_err().to_string();
    assert!(error.contains("row 100 of a table of 100"), "{error}");
    assert!(model.run(&[1; 97], 1).is_err(), "there are 96 positions");
}

#[test]
fn a_shared_matrix_is_recognized_in_each_product() {
    // The product after the first attention gets the matrix of its queries.
    let mut model = ModelProto::decode(&*Bert::bytes(Weights::Cast, Style::Script)).unwrap();
    let graph = model.graph.as_mut().unwrap();
    let products: Vec<usize> =
        (0..graph.node.len()).filter(|at| graph.node[*at].op_type == "MatMul").collect();
    graph.node[products[5]].input[1] = graph.node[products[0]].input[1].clone();
    let bytes = model.encode_to_vec();
    let model = read(&bytes).unwrap();
    assert_eq!(model.operators().get("Linear8"), Some(&(6 * LAYERS)), "{:?}", model.operators());
    let far = furthest(&model.run(&TOKENS, 1).unwrap(), &by_tract(&bytes, &TOKENS));
    assert!(far < 2e-3, "{far}");
}

#[test]
fn unsupported_models_are_named() {
    let rename = |from: &str, to: &str| {
        let mut model = ModelProto::decode(&*Bert::bytes(Weights::Cast, Style::Dynamo)).unwrap();
        let graph = model.graph.as_mut().unwrap();
        graph
            .input
            .iter_mut()
            .filter(|input| input.name == from)
            .for_each(|input| input.name = to.to_owned());
        graph
            .node
            .iter_mut()
            .flat_map(|node| &mut node.input)
            .filter(|input| *input == from)
            .for_each(|input| *input = to.to_owned());
        read(&model.encode_to_vec()).map(|_| ()).unwrap_err().to_string()
    };
    assert!(rename("input_ids", "pixel_values").contains("\"pixel_values\""));
    let mut model = ModelProto::decode(&*Bert::bytes(Weights::Cast, Style::Dynamo)).unwrap();
    model.graph.as_mut().unwrap().node[3].op_type = "NoSuchOperator".to_owned();
    let error = read(&model.encode_to_vec()).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("this model cannot be run: "), "{error}");
}

#[test]
fn malformed_files_are_named() {
    let error = |bytes: &[u8]| read(bytes).map(|_| ()).unwrap_err().to_string();
    assert_eq!(error(b"<!doctype html>"), "not an ONNX file: malformed Protocol Buffers at byte 1");
    assert_eq!(error(b""), "the ONNX file ends early, after 0 bytes");
    let bytes = Bert::bytes(Weights::Cast, Style::Dynamo);
    let mut reader = ModelReader::new(bytes.len() as u64);
    reader.push(&bytes[..5000]).unwrap();
    let early = reader.finish().map(|_| ()).unwrap_err().to_string();
    assert_eq!(early, "the ONNX file ends early, after 5000 bytes");
    // A length above that of the file.
    assert!(
        error(&[0x3a, 0xff, 0xff, 0xff, 0xff, 0x7f, 0x2a])
            .ends_with("malformed Protocol Buffers at byte 6")
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn pieces_make_no_difference(sizes in prop::collection::vec(1_usize..3000, 1..200)) {
        let bytes = Bert::bytes(Weights::Cast, Style::Script);
        let mut reader = ModelReader::new(bytes.len() as u64);
        let (mut rest, mut sizes) = (&*bytes, sizes.iter().cycle());
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(*sizes.next().unwrap()));
            reader.push(piece).unwrap();
            rest = after;
        }
        let found = reader.finish().unwrap().run(&TOKENS, 1).unwrap();
        prop_assert_eq!(found, read(&bytes).unwrap().run(&TOKENS, 1).unwrap());
    }
}

proptest! {
    // PROPTEST_CASES=20000 tries more.
    #![proptest_config(ProptestConfig::default())]

    /// Wrong bytes are an error, or another model, but never a panic.
    #[test]
    fn a_file_with_wrong_bytes_is_no_panic(
        weights in prop::sample::select(vec![Weights::Cast, Weights::Dynamic, Weights::Floats]),
        wrong in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        cut in prop::option::of(any::<prop::sample::Index>()),
    ) {
        let mut bytes = Bert::bytes(weights, Style::Script);
        // Names, shapes and operators come before the weights, which have nearly all bytes.
        let graph = bytes.len() / 8;
        for (at, byte) in wrong {
            let at = at.index(graph);
            bytes[at] = byte;
        }
        if let Some(cut) = cut {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(model) = read(&bytes) {
            let _ = model.run(&TOKENS, 1);
        }
    }
}
