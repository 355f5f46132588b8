//! safetensors files: those of the reference, edited ones and generated ones.

mod events;

use edge_net_tensor::Dtype;
use edge_net_tensor::container::{Element, Error, Format};
use edge_net_tensor::safetensors::{Head, Index, IndexError, SafetensorsWriter, WriterError};
use events::Seen;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index as At, select};
use safetensors::SafeTensors;

fn read(file: &[u8]) -> Seen {
    events::read::<Head>(file.len() as u64, [file].into_iter())
}

fn vector(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    std::fs::read(format!("{folder}/{name}")).unwrap()
}

/// A file with this JSON and this many bytes of data.
fn file(json: &str, data: usize) -> Vec<u8> {
    let mut file = (json.len() as u64).to_le_bytes().to_vec();
    file.extend(json.as_bytes());
    file.extend(vec![7; data]);
    file
}

/// Whether the reference accepts a file.
fn accepted(file: &[u8]) -> bool {
    SafeTensors::deserialize(file).is_ok()
}

#[test]
fn a_file_of_the_reference_is_read_and_written_alike() {
    let file = vector("small.safetensors");
    let seen = read(&file);
    assert_eq!(seen.error, None);
    assert_eq!(seen.contents.metadata.str("format"), Ok("pt \"quoted\" é"));
    let reference = SafeTensors::deserialize(&file).unwrap();
    assert_eq!(reference.len(), seen.contents.tensors.len());
    let mut writer = SafetensorsWriter::new();
    writer.set("format", "pt \"quoted\" é");
    // Added in another order than that of the file.
    for (tensor, data) in seen.contents.tensors.iter().zip(&seen.data).rev() {
        let expected = reference.tensor(&tensor.name).unwrap();
        assert_eq!((&*tensor.dims, &**data), (expected.shape(), expected.data()));
        writer.add(&tensor.name, &tensor.dims, tensor.dtype().unwrap()).unwrap();
    }
    let last = seen.data.len() - 1;
    let mut written = Vec::new();
    writer.write(&mut written, |place, out| out.write_all(&seen.data[last - place])).unwrap();
    assert_eq!(written, file);
    assert_eq!(writer.size(), file.len() as u64);
}

#[test]
fn types_that_are_no_weights_are_listed() {
    let seen = read(&vector("others.safetensors"));
    assert_eq!(seen.error, None);
    let positions = seen.contents.tensor("positions").unwrap();
    assert_eq!((positions.element, &*positions.dims), (Element::Other("I64"), &[3][..]));
    let error = positions.dtype().unwrap_err().to_string();
    assert_eq!(error, "the tensor \"positions\" has the unsupported element type I64");
    assert_eq!(seen.contents.tensor("weight").unwrap().dtype(), Ok(Dtype::F32));
    assert_eq!(seen.contents.tensor("empty").unwrap().size, 0);
    let reference = vector("others.safetensors");
    let mask = SafeTensors::deserialize(&reference).unwrap();
    let place = seen.contents.tensors.iter().position(|tensor| tensor.name == "mask").unwrap();
    assert_eq!(seen.data[place], mask.tensor("mask").unwrap().data());
}

#[test]
fn a_short_file_says_what_is_missing() {
    let file = vector("small.safetensors");
    let cut =
        |length: usize| events::read::<Head>(file.len() as u64, [&file[..length]].into_iter());
    let missing = |name: &str, missing| Some(Error::Missing { tensor: name.to_owned(), missing });
    assert_eq!(cut(file.len() - 3).error, missing("a.half", 3));
    assert_eq!(cut(file.len() - 13).error, missing("z.vector", 3));
    let early = Some(Error::EndsEarly { format: Format::Safetensors, at: 50 });
    assert_eq!(cut(50).error, early);
    assert_eq!(read(&file[..file.len() - 3]).error, missing("a.half", 3));
    let longer = [&*file, b"x"].concat();
    let at = file.len() as u64;
    assert_eq!(read(&longer).error, Some(Error::Hole { at, length: 1 }));
    assert!(!accepted(&longer));
}

#[test]
fn what_the_reference_refuses_is_refused() {
    let entry = |name, dtype, shape: &str, begin: u32, end: u32| {
        format!(r#""{name}":{{"dtype":"{dtype}","shape":{shape},"data_offsets":[{begin},{end}]}}"#)
    };
    let one = |begin, end| format!("{{{}}}", entry("a", "F32", "[1]", begin, end));
    let of = |dtype, shape, end| format!("{{{}}}", entry("a", dtype, shape, 0, end));
    let two = |shape, begin, end| {
        let second = entry("b", "F32", shape, begin, end);
        format!("{{{},{second}}}", entry("a", "F32", "[2]", 0, 8))
    };
    let text = str::to_owned;
    let cases = [
        // A hole, before, between and after.
        (one(4, 8), 8),
        (two("[1]", 12, 16), 16),
        (one(0, 4), 8),
        // An overlap, one of a tensor without bytes, and an end before the beginning.
        (two("[1]", 4, 8), 8),
        (two("[0]", 4, 4), 8),
        (one(4, 0), 4),
        // A shape of another size, and one that overflows.
        (of("F16", "[1]", 4), 4),
        (of("F32", "[4611686018427387904,4]", 0), 0),
        // An unknown type, members that are absent, and JSON that is none.
        (of("Q4", "[8]", 4), 4),
        (text(r#"{"a":{"dtype":"F32","shape":[1]}}"#), 4),
        (of("F32", "[-1]", 4), 4),
        (text(r#"{"__metadata__":{"a":1}}"#), 0),
        (text("{"), 0),
        (text("[]"), 0),
        (text("{}x"), 0),
        (text(""), 0),
    ];
    // The parts are right where nothing is wrong.
    for json in [one(0, 4), of("F32", "[1]", 4)] {
        assert!(read(&file(&json, 4)).error.is_none() && accepted(&file(&json, 4)), "{json}");
    }
    assert!(accepted(&file(&two("[1]", 8, 12), 12)));
    for (json, data) in cases {
        let file = file(&json, data);
        assert!(read(&file).error.is_some(), "{json}");
        assert!(!accepted(&file), "{json}");
    }
}

#[test]
fn a_head_begins_with_a_brace() {
    // The format demands it; the reference reads a space before it.
    assert!(matches!(read(&file(" {}", 0)).error, Some(Error::Malformed { .. })));
    assert_eq!(read(&file("{}  ", 0)).error, None);
}

#[test]
fn what_comes_twice_is_refused() {
    let tensor = r#""a":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}"#;
    let error = read(&file(&format!("{{{tensor},{tensor}}}"), 0)).error.unwrap();
    assert!(matches!(error, Error::Duplicate { what: "tensors", .. }), "{error}");
    let error = read(&file(r#"{"__metadata__":{"a":"1","a":"2"}}"#, 0)).error.unwrap();
    assert!(matches!(error, Error::Duplicate { what: "keys", .. }), "{error}");
    let error = read(&file(r#"{"__metadata__":{},"__metadata__":{}}"#, 0)).error.unwrap();
    assert!(error.to_string().contains("__metadata__"), "{error}");
}

#[test]
fn the_head_is_limited() {
    let error = |size: u64, length: u64| {
        events::read::<Head>(size, [&length.to_le_bytes()[..]].into_iter()).error.unwrap()
    };
    assert!(matches!(error(1 << 40, (16 << 20) + 1), Error::TooMany { .. }));
    assert!(matches!(error(1 << 40, u64::MAX), Error::TooMany { .. }));
    assert!(matches!(error(100, 93), Error::Malformed { .. }));
    assert!(matches!(error(100, 92), Error::EndsEarly { .. }));
    let json = r#"{"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}}"#;
    assert!(matches!(read(&file(json, 4)).error, Some(Error::Shape { .. })));
}

#[test]
fn a_writer_refuses_what_cannot_be_written() {
    let mut writer = SafetensorsWriter::new();
    writer.add("a", &[2], Dtype::F32).unwrap();
    for name in ["a", "__metadata__"] {
        assert!(matches!(writer.add(name, &[2], Dtype::F32), Err(WriterError::Taken { .. })));
    }
    let error = writer.add("q", &[32], Dtype::Q4_0).unwrap_err().to_string();
    assert_eq!(error, "the tensor \"q\" has the type Q4_0, which safetensors does not have");
    let large = [usize::MAX, usize::MAX];
    assert!(matches!(writer.add("b", &large, Dtype::F32), Err(WriterError::Shape { .. })));
}

#[test]
fn an_index_says_which_file_has_a_tensor() {
    let text = r#"{"metadata":{"total_size":12},"weight_map":{
        "model.norm.weight":"model-00002-of-00002.safetensors",
        "lm_head.weight":"model-00001-of-00002.safetensors",
        "a":"model-00002-of-00002.safetensors"}}"#;
    let index = Index::parse(text).unwrap();
    let files = ["model-00002-of-00002.safetensors", "model-00001-of-00002.safetensors"];
    assert_eq!(index.files(), files);
    assert_eq!(index.file_of("lm_head.weight"), Some(files[1]));
    assert_eq!(index.file_of("none"), None);
    assert_eq!(index.iter().collect::<Vec<_>>()[0], ("a", files[0]));
    for name in [
        "../a.safetensors",
        "/a.safetensors",
        "b/a.safetensors",
        "a.bin",
        "",
        "..",
        "a\\b.safetensors",
        ".safetensors",
    ] {
        let text = serde_json::json!({ "weight_map": { "a": name } }).to_string();
        assert!(matches!(Index::parse(&text), Err(IndexError::FileName { .. })), "{name:?}");
    }
    let twice = r#"{"weight_map":{"a":"x.safetensors","a":"x.safetensors"}}"#;
    assert!(matches!(Index::parse(twice), Err(IndexError::Duplicate { .. })));
    assert!(matches!(Index::parse("{}"), Err(IndexError::Json { .. })));
    let many: Vec<String> =
        (0..1025).map(|file| format!("\"{file}\":\"{file}.safetensors\"")).collect();
    let many = format!("{{\"weight_map\":{{{}}}}}", many.join(","));
    assert!(matches!(Index::parse(&many), Err(IndexError::TooMany { what: "files", .. })));
}

/// A head, from parts that are right or nearly so.
fn head() -> impl Strategy<Value = (String, usize)> {
    let dtype = select(&["F32", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "X"][..]);
    let tensor = (dtype, vec(0..4_u64, 0..3), -1..2_i64, 0..12_u8);
    (vec(tensor, 0..4), 0..8_usize).prop_map(|(tensors, more)| {
        let mut at = 0;
        let mut members = Vec::new();
        for (place, (dtype, shape, off, chance)) in tensors.into_iter().enumerate() {
            let bits = match dtype {
                "F32" => 32,
                "F16" | "BF16" => 16,
                "I64" => 64,
                "F4" => 4,
                _ => 8,
            };
            let size = shape.iter().product::<u64>() * bits / 8;
            let begin = if chance == 0 { at + off } else { at };
            let end = at + i64::try_from(size).unwrap() + if chance == 1 { off } else { 0 };
            let rest = format!(r#""shape":{shape:?},"data_offsets":[{begin},{end}]"#);
            members.push(format!(r#""{place}":{{"dtype":"{dtype}",{rest}}}"#));
            at = end.max(0);
        }
        (format!("{{{}}}", members.join(",")), usize::try_from(at).unwrap() + more / 7)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    #[test]
    fn the_reference_agrees((json, data) in head(), cuts in vec(any::<At>(), 0..6)) {
        let file = file(&json, data);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(file.len() + 1)).collect();
        cuts.extend([0, file.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &file[cut[0]..cut[1]]);
        let seen = events::read::<Head>(file.len() as u64, pieces);
        prop_assert_eq!(&read(&file), &seen);
        prop_assert_eq!(seen.error.is_none(), accepted(&file), "{}: {:?}", json, seen.error);
        if let Ok(reference) = SafeTensors::deserialize(&file) {
            for (tensor, data) in seen.contents.tensors.iter().zip(&seen.data) {
                let expected = reference.tensor(&tensor.name).unwrap();
                prop_assert_eq!(&**data, expected.data());
            }
        }
    }
}
