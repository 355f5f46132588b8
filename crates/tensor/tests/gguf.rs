//! GGUF files: those of the reference writer, edited ones and generated ones.

mod events;

use edge_net_tensor::Dtype;
use edge_net_tensor::container::{Array, Error, Format, Metadata, Strings, Value};
use edge_net_tensor::gguf::{GgufWriter, Head, WriterError};
use events::Seen;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

fn read(file: &[u8]) -> Seen {
    events::read::<Head>(file.len() as u64, [file].into_iter())
}

fn vector(name: &str) -> Vec<u8> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/vectors");
    std::fs::read(format!("{folder}/{name}")).unwrap()
}

/// The metadata of `make.py`.
fn metadata() -> Metadata {
    let mut metadata = Metadata::default();
    metadata.set("general.architecture", "llama");
    metadata.set("value.u8", 200_u8);
    metadata.set("value.i8", -100_i8);
    metadata.set("value.u16", 60_000_u16);
    metadata.set("value.i16", -30_000_i16);
    metadata.set("value.u32", 4_000_000_000_u32);
    metadata.set("value.i32", -2_000_000_000_i32);
    metadata.set("value.f32", 0.5_f32);
    metadata.set("value.bool", true);
    metadata.set("value.string", "Größe 😀");
    metadata.set("value.u64", u64::MAX);
    metadata.set("value.i64", i64::MIN);
    metadata.set("value.f64", 1e300);
    metadata.set("array.u8", Array::U8(vec![1, 2, 3]));
    metadata.set("array.i8", Array::I8(vec![1, 2, 3]));
    metadata.set("array.u16", Array::U16(vec![1, 2, 3]));
    metadata.set("array.i16", Array::I16(vec![1, 2, 3]));
    metadata.set("array.u32", Array::U32(vec![1, 2, 3]));
    metadata.set("array.i32", Array::I32(vec![1, 2, 3]));
    metadata.set("array.u64", Array::U64(vec![1, 2, 3]));
    metadata.set("array.i64", Array::I64(vec![1, 2, 3]));
    metadata.set("array.f32", Array::F32(vec![0.5, -1.0]));
    metadata.set("array.f64", Array::F64(vec![0.25, -1e300]));
    metadata.set("array.bool", Array::Bool(vec![true, false, true]));
    metadata.set("array.string", Array::Strings(Strings::from_iter(["", "a", "Ġthe"])));
    let inner = |texts: &[&str]| Array::Strings(texts.iter().copied().collect());
    metadata.set("array.array", Array::Arrays(vec![inner(&["x"]), inner(&["y", "z"])]));
    metadata
}

/// The tensors of `make.py`.
const TENSORS: [(&str, &[usize], Dtype); 5] = [
    ("matrix", &[3, 32], Dtype::F32),
    ("half", &[2, 5], Dtype::F16),
    ("quantized", &[4, 64], Dtype::Q8_0),
    ("cube", &[2, 3, 4], Dtype::Bf16),
    ("vector", &[7], Dtype::F32),
];

/// The values of `make.py`.
fn floats(count: u8) -> impl Iterator<Item = f32> {
    (0..count).map(|at| (f32::from(u16::from(at) * 37 % 65) - 32.0) / 8.0)
}

fn write(metadata: Metadata, tensors: &[(&str, &[usize], Dtype)], data: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = GgufWriter::new(metadata);
    for (name, dims, dtype) in tensors {
        writer.add(name, dims, *dtype).unwrap();
    }
    let mut file = Vec::new();
    writer.write(&mut file, |place, out| out.write_all(&data[place])).unwrap();
    assert_eq!(file.len() as u64, writer.size());
    file
}

#[test]
fn a_file_of_the_reference_is_read_and_written_alike() {
    let file = vector("small.gguf");
    let seen = read(&file);
    assert_eq!(seen.error, None);
    assert_eq!(seen.contents.metadata, metadata());
    for ((name, dims, dtype), tensor) in TENSORS.iter().zip(&seen.contents.tensors) {
        assert_eq!((&*tensor.name, &*tensor.dims, tensor.dtype()), (*name, *dims, Ok(*dtype)));
        assert_eq!(Some(tensor.size), dtype.tensor_bytes(dims));
        assert_eq!(tensor.offset % 32, 0);
    }
    let bytes: Vec<u8> = floats(96).flat_map(f32::to_le_bytes).collect();
    assert_eq!(seen.data[0], bytes);
    assert_eq!(seen.data[4], bytes[..28]);
    // The wide types of `cube` are the upper halves.
    let upper: Vec<u8> = floats(24).flat_map(|value| value.to_le_bytes()[2..].to_vec()).collect();
    assert_eq!(seen.data[3], upper);
    assert_eq!(write(metadata(), &TENSORS, &seen.data), file);
}

#[test]
fn another_alignment_is_heeded() {
    let seen = read(&vector("aligned.gguf"));
    assert_eq!(seen.error, None);
    assert_eq!(seen.contents.metadata.u32("general.alignment"), Ok(128));
    assert!(seen.contents.tensors.iter().all(|tensor| tensor.offset % 128 == 0));
    assert_eq!(seen.data, read(&vector("small.gguf")).data);
}

#[test]
fn version_2_is_the_same_and_others_are_refused() {
    let mut file = vector("small.gguf");
    let version = |file: &mut Vec<u8>, bytes: [u8; 4]| file[4..8].copy_from_slice(&bytes);
    let seen = read(&file);
    version(&mut file, [2, 0, 0, 0]);
    assert_eq!(read(&file), seen);
    for number in [0, 1, 4] {
        version(&mut file, u32::to_le_bytes(number));
        assert_eq!(read(&file).error, Some(Error::Version { version: number }));
    }
    version(&mut file, [0, 0, 0, 3]);
    assert_eq!(read(&file).error, Some(Error::BigEndian));
    file[0] = b'H';
    assert!(matches!(read(&file).error, Some(Error::Malformed { .. })));
}

#[test]
fn a_short_file_says_what_is_missing() {
    let file = vector("small.gguf");
    let all = read(&file);
    let tensor = &all.contents.tensors[2];
    let end = usize::try_from(tensor.end()).unwrap();
    let missing = |missing| Some(Error::Missing { tensor: "quantized".to_owned(), missing });
    // The size is right, the stream ends early: inside the tensor, and before it.
    let cut =
        |length: usize| events::read::<Head>(file.len() as u64, [&file[..length]].into_iter());
    assert_eq!(cut(end - 5).error, missing(5));
    assert_eq!(cut(end - 5).data[2].len() + 5, all.data[2].len());
    let before = usize::try_from(tensor.offset).unwrap() - 3;
    assert_eq!(cut(before).error, missing(tensor.size));
    let early = |at| Some(Error::EndsEarly { format: Format::Gguf, at });
    assert_eq!(cut(100).error, early(100));
    assert_eq!(cut(file.len() - 1).error, early(file.len() as u64 - 1));
    // The file itself is short: no byte is reported.
    let seen = read(&file[..end - 5]);
    assert_eq!(seen.error, Some(Error::Missing { tensor: "quantized".to_owned(), missing: 5 }));
    assert!(seen.order.is_empty());
    // More bytes come than the file has.
    let seen = events::read::<Head>(file.len() as u64, [&*file, b"x"].into_iter());
    assert!(matches!(seen.error, Some(Error::Trailing { .. })));
}

/// A file without metadata: for each tensor its name, dimensions (innermost first), type, offset.
fn file(tensors: &[(&str, &[u64], u32, u64)], data: usize) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend((tensors.len() as u64).to_le_bytes());
    file.extend([0; 8]);
    for (name, dims, number, offset) in tensors {
        file.extend((name.len() as u64).to_le_bytes());
        file.extend(name.as_bytes());
        file.extend(u32::try_from(dims.len()).unwrap().to_le_bytes());
        file.extend(dims.iter().flat_map(|dim| dim.to_le_bytes()));
        file.extend(number.to_le_bytes());
        file.extend(offset.to_le_bytes());
    }
    file.resize(file.len().next_multiple_of(32), 0);
    file.extend((0..data).map(|at| u8::try_from(at % 251).unwrap()));
    file
}

#[test]
fn tensors_may_be_listed_in_any_order_and_have_gaps() {
    let seen =
        read(&file(&[("b", &[8], 0, 128), ("none", &[0, 4], 0, 0), ("a", &[2, 4], 0, 0)], 170));
    assert_eq!(seen.error, None);
    assert_eq!(seen.order, [2, 0]);
    assert_eq!(seen.data[2], (0..32).collect::<Vec<u8>>());
    assert_eq!(seen.data[0], (128..160).collect::<Vec<u8>>());
    assert_eq!(seen.contents.tensors[2].dims, [4, 2]);
    assert!(seen.data[1].is_empty());
}

#[test]
fn impossible_tensors_are_refused() {
    let error = |tensors: &[(&str, &[u64], u32, u64)]| read(&file(tensors, 256)).error.unwrap();
    let name = |name: &str| name.to_owned();
    assert_eq!(
        error(&[("a", &[16], 0, 0), ("b", &[16], 0, 32)]),
        Error::Overlap { first: name("a"), second: name("b") }
    );
    assert_eq!(
        error(&[("a", &[16], 0, 0), ("a", &[16], 0, 64)]),
        Error::Duplicate { format: Format::Gguf, what: "tensors", name: name("a") }
    );
    assert_eq!(
        error(&[("a", &[16], 0, 8)]),
        Error::Misaligned { tensor: name("a"), offset: 8, alignment: 32 }
    );
    for number in [4, 16, 1000] {
        let element = number.to_string();
        assert_eq!(
            error(&[("a", &[16], number, 0)]),
            Error::ElementType { tensor: name("a"), element }
        );
    }
    assert_eq!(error(&[("a", &[80], 0, 0)]), Error::Missing { tensor: name("a"), missing: 64 });
    assert!(matches!(error(&[("a", &[1], 0, u64::MAX - 31)]), Error::Missing { .. }));
    assert!(matches!(error(&[("a", &[33], 8, 0)]), Error::Shape { .. }));
    assert!(matches!(error(&[("a", &[u64::MAX, 2], 0, 0)]), Error::Shape { .. }));
    assert!(matches!(error(&[("a", &[1; 5], 0, 0)]), Error::TooMany { most: 4, .. }));
    let long = "x".repeat(257);
    assert!(matches!(error(&[(&long, &[1], 0, 0)]), Error::TooMany { most: 256, .. }));
}

/// A file with one key, whose type and value are `value`.
fn with_value(value: &[&[u8]]) -> Vec<u8> {
    let mut file = b"GGUF\x03\0\0\0".to_vec();
    file.extend(0_u64.to_le_bytes());
    file.extend(1_u64.to_le_bytes());
    file.extend(17_u64.to_le_bytes());
    file.extend(b"general.alignment");
    file.extend(value.concat());
    file
}

#[test]
fn impossible_values_are_refused() {
    let array = 9_u32.to_le_bytes();
    let nested = |depth: usize| {
        let head = [&array[..], &1_u64.to_le_bytes()].concat();
        [&array[..], &head.repeat(depth), &4_u32.to_le_bytes(), &[0; 8]].concat()
    };
    let huge = u64::MAX.to_le_bytes();
    let cases: [&[&[u8]]; 12] = [
        &[&13_u32.to_le_bytes()],
        &[&array, &13_u32.to_le_bytes(), &[0; 8]],
        &[&7_u32.to_le_bytes(), &[2]],
        &[&8_u32.to_le_bytes(), &huge],
        &[&8_u32.to_le_bytes(), &2_u64.to_le_bytes(), &[0xC3, 0x28]],
        &[&array, &4_u32.to_le_bytes(), &huge],
        &[&array, &8_u32.to_le_bytes(), &huge],
        &[&array, &7_u32.to_le_bytes(), &1_u64.to_le_bytes(), &[3]],
        &[&nested(8)],
        // The alignment has to be a power of two of some integer type.
        &[&4_u32.to_le_bytes(), &24_u32.to_le_bytes()],
        &[&4_u32.to_le_bytes(), &(1_u32 << 21).to_le_bytes()],
        &[&nested(1)],
    ];
    for (place, case) in cases.iter().enumerate() {
        let error = read(&with_value(case)).error;
        assert!(matches!(error, Some(Error::Malformed { .. })), "case {place}: {error:?}");
    }
    assert_eq!(read(&with_value(&[&10_u32.to_le_bytes(), &16_u64.to_le_bytes()])).error, None);
}

#[test]
fn numbers_in_the_head_are_limited() {
    let head = |tensors: u64, keys: u64| {
        [&b"GGUF\x03\0\0\0"[..], &tensors.to_le_bytes(), &keys.to_le_bytes()].concat()
    };
    for file in [head(65_537, 0), head(0, 4097), head(u64::MAX, u64::MAX)] {
        assert!(matches!(read(&file).error, Some(Error::TooMany { .. })));
    }
    // A text above the limit of metadata, in a file that is large enough for it.
    let text = [&8_u32.to_le_bytes()[..], &(65_u64 << 20).to_le_bytes()].concat();
    let file = with_value(&[&text]);
    let seen = events::read::<Head>(1 << 40, [&*file].into_iter());
    assert!(matches!(seen.error, Some(Error::TooMany { what: "bytes of metadata", .. })));
    let twice =
        [&head(0, 2)[..], &with_value(&[&4_u32.to_le_bytes(), &[32, 0, 0, 0]])[24..]].concat();
    let twice = [&twice[..], &twice[24..]].concat();
    assert!(matches!(read(&twice).error, Some(Error::Duplicate { what: "keys", .. })));
}

#[test]
fn metadata_are_typed() {
    let metadata = metadata();
    assert_eq!(metadata.u32("value.u8"), Ok(200));
    assert_eq!(metadata.i64("value.i8"), Ok(-100));
    assert_eq!(metadata.f32("value.f32"), Ok(0.5));
    assert_eq!(metadata.str("value.string"), Ok("Größe 😀"));
    assert_eq!(metadata.bool("value.bool"), Ok(true));
    assert_eq!(metadata.f32s("array.f32"), Ok(&[0.5, -1.0][..]));
    let texts: Vec<&str> = metadata.strings("array.string").unwrap().iter().collect();
    assert_eq!(texts, ["", "a", "Ġthe"]);
    let said = |error: &dyn ToString| error.to_string();
    let error = metadata.u32("value.string").unwrap_err();
    assert_eq!(said(&error), "the metadata has a string for \"value.string\" where u32 is needed");
    let error = metadata.u32("value.i8").unwrap_err();
    assert_eq!(said(&error), "the metadata has -100 for \"value.i8\", which is no u32");
    let error = metadata.strings("array.f32").unwrap_err();
    let expected =
        "the metadata has an array of f32 for \"array.f32\" where an array of strings is needed";
    assert_eq!(said(&error), expected);
    assert_eq!(said(&metadata.str("none").unwrap_err()), "the metadata lacks \"none\"");
}

#[test]
fn a_writer_refuses_what_cannot_be_read() {
    let mut writer = GgufWriter::new(Metadata::default());
    writer.add("a", &[2, 32], Dtype::Q4_0).unwrap();
    let error = writer.add("a", &[1], Dtype::F32).unwrap_err();
    assert_eq!(error, WriterError::Duplicate { name: "a".to_owned() });
    assert!(matches!(writer.add("b", &[2, 33], Dtype::Q4_0), Err(WriterError::Shape { .. })));
    assert!(matches!(writer.add("b", &[1; 5], Dtype::F32), Err(WriterError::Shape { .. })));
    let result = writer.write(&mut Vec::new(), |_, out| out.write_all(&[0; 35]));
    assert_eq!(result.unwrap_err().to_string(), "35 bytes were written of the 36 of \"a\"");
}

fn value() -> impl Strategy<Value = Value> {
    let array = prop_oneof![
        vec(any::<u8>(), 0..9).prop_map(Array::U8),
        vec(any::<i32>(), 0..9).prop_map(Array::I32),
        vec(-1e9_f64..1e9, 0..9).prop_map(Array::F64),
        vec(any::<bool>(), 0..9).prop_map(Array::Bool),
        vec("[a-zé]{0,4}", 0..9)
            .prop_map(|texts| Array::Strings(texts.iter().map(String::as_str).collect())),
    ];
    let array = array.prop_recursive(3, 8, 3, |inner| vec(inner, 0..3).prop_map(Array::Arrays));
    prop_oneof![
        any::<u16>().prop_map(Value::U16),
        any::<i64>().prop_map(Value::I64),
        (-1e9_f32..1e9).prop_map(Value::F32),
        ".{0,9}".prop_map(Value::String),
        array.prop_map(Value::Array),
    ]
}

/// A file, and what it has.
fn whole() -> impl Strategy<Value = (Metadata, Vec<(String, Vec<usize>, Dtype)>)> {
    let dtype = select(&Dtype::ALL[..]);
    let tensor =
        (vec(0..4_usize, 0..3), 0..3_usize, dtype).prop_map(|(mut dims, blocks, dtype)| {
            dims.push(blocks * dtype.block_len());
            (dims, dtype)
        });
    (vec(value(), 0..6), vec(tensor, 0..6)).prop_map(|(values, tensors)| {
        let mut metadata = Metadata::default();
        for (place, value) in values.into_iter().enumerate() {
            metadata.set(&format!("key.{place}"), value);
        }
        let named = |(place, (dims, dtype))| (format!("tensor.{place}"), dims, dtype);
        (metadata, tensors.into_iter().enumerate().map(named).collect())
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_in_pieces_of_any_size(
        (metadata, tensors) in whole(),
        cuts in vec(any::<Index>(), 0..12),
    ) {
        let listed: Vec<(&str, &[usize], Dtype)> =
            tensors.iter().map(|(name, dims, dtype)| (&**name, &**dims, *dtype)).collect();
        let size = |dims: &[usize], dtype: Dtype| {
            usize::try_from(dtype.tensor_bytes(dims).unwrap()).unwrap()
        };
        let data: Vec<Vec<u8>> = listed
            .iter()
            .map(|(_, dims, dtype)| (0..=250).cycle().take(size(dims, *dtype)).collect())
            .collect();
        let file = write(metadata.clone(), &listed, &data);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(file.len() + 1)).collect();
        cuts.extend([0, file.len()]);
        cuts.sort_unstable();
        let pieces = cuts.windows(2).map(|cut| &file[cut[0]..cut[1]]);
        let seen = events::read::<Head>(file.len() as u64, pieces);
        prop_assert_eq!(&seen.error, &None);
        prop_assert_eq!(&seen.contents.metadata, &metadata);
        prop_assert_eq!(&seen.data, &data);
        prop_assert_eq!(events::read::<Head>(file.len() as u64, file.chunks(1)), seen);
    }
}
