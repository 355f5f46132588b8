//! Reading and writing of generated models and of arbitrary bytes, in pieces of any size.

mod seen;

use std::io::Cursor;

use edge_net_onnx::messages::{
    AttributeProto, DataType, GraphProto, ModelProto, NodeProto, OperatorSetIdProto,
    StringStringEntryProto, TensorProto, ValueInfoProto,
};
use edge_net_onnx::schema::RAW_DATA;
use edge_net_onnx::{Collector, Error, FileError, Message, Model, Reader, Tensor, Values, skim};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::sample::Index;
use prost::Message as _;
use seen::{Seen, take};

/// Everything that a reader reports for a file, cut at `cuts`, and the error at its end, if any.
fn events(file: &[u8], cuts: &[Index], whole: usize) -> (Vec<Seen>, Option<Error>) {
    events_of_size(file, file.len() as u64, cuts, whole)
}

fn events_of_size(
    file: &[u8],
    size: u64,
    cuts: &[Index],
    whole: usize,
) -> (Vec<Seen>, Option<Error>) {
    let mut reader = Reader::new(Message::Model, size, whole);
    let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(file.len() + 1)).collect();
    cuts.push(file.len());
    cuts.sort_unstable();
    let (mut seen, mut from) = (Vec::new(), 0);
    for cut in cuts {
        let piece = &file[from..cut];
        from = cut;
        if let Err(error) = take(&mut reader, piece, &mut seen) {
            return (seen, Some(error));
        }
    }
    (seen, reader.finish().err())
}

/// A model in a file in memory.
fn collected(file: &[u8]) -> Result<Model, FileError> {
    Model::read(&mut Cursor::new(file))
}

/// Writes a model, the values of tensor `n` from `values[n]`.
fn written(model: &Model, values: &[Vec<u8>]) -> Vec<u8> {
    let outline = model.outline();
    let mut file = Vec::new();
    outline.write(&mut file, |tensor, _, out| out.write_all(&values[tensor])).unwrap();
    assert_eq!(file.len() as u64, outline.size());
    file
}

fn text() -> impl Strategy<Value = Option<String>> {
    option::of("[a-z/._0-9é]{0,12}")
}

fn entries() -> impl Strategy<Value = Vec<StringStringEntryProto>> {
    vec((text(), text()).prop_map(|(key, value)| StringStringEntryProto { key, value }), 0..3)
}

fn attribute() -> impl Strategy<Value = AttributeProto> {
    let numbers = (option::of(any::<i64>()), vec(any::<i64>(), 0..4), vec(-9.0_f32..9.0, 0..4));
    let tensor = option::of(vec(any::<i32>(), 0..4));
    (text(), numbers, tensor).prop_map(|(name, (i, ints, floats), tensor)| AttributeProto {
        name,
        i,
        ints,
        floats,
        t: tensor.map(|int32_data| TensorProto { int32_data, ..TensorProto::default() }.into()),
        ..AttributeProto::default()
    })
}

fn node() -> impl Strategy<Value = NodeProto> {
    (vec("[a-z]{0,3}", 0..4), vec("[a-z]{1,3}", 1..3), text(), text(), vec(attribute(), 0..3))
        .prop_map(|(input, output, name, op_type, attribute)| NodeProto {
            input,
            output,
            name,
            op_type,
            attribute,
            ..NodeProto::default()
        })
}

/// A tensor and its values, as bytes or outside the file.
fn tensor() -> impl Strategy<Value = (Tensor, Vec<u8>)> {
    let head = (vec(0..9_i64, 0..4), text(), text(), entries(), any::<bool>());
    (head, vec(any::<u8>(), 0..300)).prop_map(|((dims, name, doc_string, entries, raw), bytes)| {
        let head = TensorProto {
            dims,
            name,
            doc_string,
            data_type: Some(DataType::Int8.into()),
            data_location: (!raw).then_some(1),
            external_data: if raw { Vec::new() } else { entries },
            ..TensorProto::default()
        };
        let values = Values { number: RAW_DATA, length: bytes.len() as u64, position: 0 };
        (Tensor { head, values: if raw { vec![values] } else { Vec::new() } }, bytes)
    })
}

prop_compose! {
    fn model()(
        ir_version in option::of(0..12_i64),
        producer_name in text(),
        opset in option::of(0..30_i64),
        metadata_props in entries(),
        node in vec(node(), 0..5),
        name in text(),
        outputs in vec(text(), 0..3),
        training_info in vec(vec(any::<u8>(), 0..9), 0..2),
        tensors in vec(tensor(), 0..5),
    ) -> (Model, Vec<Vec<u8>>) {
        let opset_import = opset.map(|version| OperatorSetIdProto {
            domain: None,
            version: Some(version),
        });
        let output = outputs.into_iter();
        let output = output.map(|name| ValueInfoProto { name, ..ValueInfoProto::default() });
        let graph = GraphProto { node, name, output: output.collect(), ..GraphProto::default() };
        let head = ModelProto {
            ir_version,
            producer_name,
            opset_import: opset_import.into_iter().collect(),
            metadata_props,
            training_info,
            ..ModelProto::default()
        };
        let (tensors, values) = tensors.into_iter().unzip();
        (Model { head, graph: Some(graph), tensors }, values)
    }
}

fn without_positions(mut model: Model) -> Model {
    let values = model.tensors.iter_mut().flat_map(|tensor| &mut tensor.values);
    values.for_each(|values| values.position = 0);
    model
}

proptest! {
    #[test]
    fn a_written_model_is_read_as_the_same_model((model, values) in model()) {
        let file = written(&model, &values);
        let read = collected(&file).unwrap();
        for (tensor, values) in read.tensors.iter().zip(&values) {
            for place in &tensor.values {
                let from = usize::try_from(place.position).unwrap();
                prop_assert_eq!(&file[from..from + values.len()], &values[..]);
            }
        }
        prop_assert_eq!(without_positions(read.clone()), model.clone());
        prop_assert_eq!(written(&read, &values), &file[..]);

        // `prost` alone encodes the whole to the same bytes.
        let mut whole = model.head;
        let mut graph = model.graph.unwrap();
        graph.initializer = model.tensors.into_iter().zip(values).map(|(tensor, values)| {
            let raw_data = (!tensor.values.is_empty()).then_some(values);
            TensorProto { raw_data, ..tensor.head }
        }).collect();
        whole.graph = Some(graph);
        prop_assert_eq!(whole.encode_to_vec(), file);
    }

    #[test]
    fn pieces_make_no_difference(
        (model, values) in model(),
        cuts in vec(any::<Index>(), 0..40),
        whole in 0..200_usize,
    ) {
        let file = written(&model, &values);
        let at_once = events(&file, &[], whole);
        prop_assert_eq!(&at_once.1, &None);
        prop_assert_eq!(events(&file, &cuts, whole), at_once);
    }

    #[test]
    fn a_truncated_file_is_an_error((model, values) in model(), end in any::<Index>()) {
        let file = written(&model, &values);
        prop_assume!(!file.is_empty());
        let end = end.index(file.len());
        // The size of the whole file is known, but bytes are missing.
        let (_, error) = events_of_size(&file[..end], file.len() as u64, &[], 1 << 20);
        prop_assert_eq!(error, Some(Error::EndsEarly { at: end as u64 }));
    }

    #[test]
    fn bytes_after_the_end_are_an_error((model, values) in model()) {
        let mut file = written(&model, &values);
        let size = file.len() as u64;
        file.push(0);
        let (_, error) = events_of_size(&file, size, &[], 1 << 20);
        prop_assert_eq!(error, Some(Error::Malformed { at: size }));
    }

    #[test]
    fn any_bytes_are_read_without_panic_in_bounded_memory(
        file in vec(any::<u8>(), 0..600),
        cuts in vec(any::<Index>(), 0..10),
        whole in 0..100_usize,
    ) {
        check(&file, &cuts, whole)?;
    }

    #[test]
    fn a_model_with_wrong_bytes_is_read_without_panic_in_bounded_memory(
        (model, values) in model(),
        wrong in vec((any::<Index>(), any::<u8>()), 1..6),
        cuts in vec(any::<Index>(), 0..10),
        whole in 0..100_usize,
    ) {
        let mut file = written(&model, &values);
        prop_assume!(!file.is_empty());
        for (at, byte) in wrong {
            let at = at.index(file.len());
            file[at] = byte;
        }
        check(&file, &cuts, whole)?;
    }
}

fn check(file: &[u8], cuts: &[Index], whole: usize) -> Result<(), TestCaseError> {
    let (seen, error) = events(file, cuts, whole);
    prop_assert_eq!((&seen, &error), (&events(file, &[], whole).0, &error));
    let mut bytes = 0;
    for seen in seen {
        match seen {
            Seen::Field(_, _, encoded) => {
                // Key and length have up to 20 bytes.
                prop_assert!(encoded.len() <= whole.max(8) + 20);
                bytes += encoded.len();
            }
            Seen::Data(data) => bytes += data.len(),
            _ => {}
        }
    }
    prop_assert!(bytes <= file.len());
    let _ = collected(file);
    let mut collector = Collector::new(100);
    let _ = skim(&mut Cursor::new(file), whole, |event| collector.add(event));
    Ok(())
}

#[test]
fn the_demo_model_is_written_as_it_was() {
    let path =
        concat!(env!("CARGO_MANIFEST_DIR"), "/../../.tools/models/minilm-l6-v2-q8/model.onnx");
    let file = std::fs::read(path).expect("dev/setup.sh has fetched the demo model");
    let model = collected(&file).unwrap();
    assert!(model.tensors.iter().map(|tensor| tensor.values[0].length).sum::<u64>() > 20_000_000);
    let outline = model.outline();
    assert_eq!(outline.size(), file.len() as u64);
    let mut copy = Vec::with_capacity(file.len());
    let from = |values: Values| usize::try_from(values.position).unwrap();
    let source = |_, values: Values, out: &mut dyn std::io::Write| {
        out.write_all(&file[from(values)..][..usize::try_from(values.length).unwrap()])
    };
    outline.write(&mut copy, source).unwrap();
    assert!(copy == file);
}

#[test]
fn a_source_has_to_write_the_length_that_was_announced() {
    let values = vec![Values { number: RAW_DATA, length: 4, position: 0 }];
    let tensor = Tensor { head: TensorProto::default(), values };
    let model = Model { tensors: vec![tensor], ..Model::default() };
    let written = |count: usize| {
        let source = |_, _, out: &mut dyn std::io::Write| out.write_all(&[0; 9][..count]);
        model.outline().write(&mut Vec::new(), source).map_err(|error| error.to_string())
    };
    assert_eq!(written(4), Ok(()));
    assert_eq!(written(3), Err("1 of 4 bytes of tensor 0 are missing".to_owned()));
    assert_eq!(written(9), Err("9 bytes for the last 4 of a tensor".to_owned()));
}

#[test]
fn limits_are_kept() {
    let node = NodeProto { doc_string: Some("x".repeat(1000)), ..NodeProto::default() };
    let graph = GraphProto { node: vec![node], ..GraphProto::default() };
    let model = Model { graph: Some(graph), ..Model::default() };
    let file = written(&model, &[]);
    let read = |most| {
        let mut collector = Collector::new(most);
        skim(&mut Cursor::new(&file), 2000, |event| collector.add(event))
            .map(|()| collector.finish())
    };
    assert_eq!(read(1100).unwrap(), model);
    let Err(FileError::Onnx(error)) = read(500) else { panic!() };
    assert_eq!(
        error.to_string(),
        "the ONNX file's graph has 1006 bytes besides tensor values; the limit is 500"
    );
    // A field above the reader's own limit is reported in pieces.
    let (seen, error) = events(&file, &[], 999);
    assert_eq!(error, None);
    assert!(matches!(&seen[1..], [Seen::Value(Message::Graph, 1, 1003, _), Seen::Data(_), ..]));
}
