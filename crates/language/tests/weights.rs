//! Weights that are wrong, and files that are cut or malformed.

mod random;

use edge_net_language::{
    DecodeError, Decoder, LoadError, Loader, Logits, Precision, WeightsBuilder, WeightsError,
};
use edge_net_tensor::container::{Element, TensorInfo};
use edge_net_tensor::safetensors::SafetensorsWriter;
use edge_net_tensor::{Dtype, MatrixError};
use random::{FAMILIES, Tensor, tensors, weights};

fn infos(tensors: &[Tensor]) -> Vec<TensorInfo> {
    tensors.iter().map(|tensor| tensor.info.clone()).collect()
}

#[test]
fn a_tensor_that_is_absent_or_different_is_named() {
    let config = FAMILIES[4].config();
    let good = infos(&tensors(&config));
    for place in 0..good.len() {
        let name = good[place].name.clone();
        let mut without = good.clone();
        without.remove(place);
        let error = WeightsBuilder::new(&config, &without).unwrap_err();
        let expected = good[place].dims.clone();
        assert_eq!(error, WeightsError::Absent { name: name.clone(), expected: expected.clone() });

        let mut other = good.clone();
        other[place].dims[0] += 1;
        let found = other[place].dims.clone();
        let error = WeightsBuilder::new(&config, &other).unwrap_err();
        assert_eq!(error, WeightsError::Shape { name: name.clone(), expected, found });

        let mut other = good.clone();
        other[place].element = Element::Other("F8_E4M3");
        let error = WeightsBuilder::new(&config, &other).unwrap_err();
        assert!(error.to_string().contains(&name) && error.to_string().contains("F8_E4M3"));
    }
}

#[test]
fn bytes_that_are_missing_or_too_many_are_refused() {
    let config = FAMILIES[0].config();
    let tensors = tensors(&config);
    let mut builder = WeightsBuilder::new(&config, &infos(&tensors)).unwrap();
    let error = builder.push(tensors.len(), &[0]).unwrap_err();
    assert_eq!(error, WeightsError::NoTensor { tensor: tensors.len(), tensors: tensors.len() });
    // In turns and in another order.
    let bytes: Vec<Vec<u8>> = tensors.iter().map(Tensor::bytes).collect();
    let rounds = bytes.iter().map(Vec::len).max().unwrap().div_ceil(777);
    for round in 0..rounds {
        for (place, bytes) in bytes.iter().enumerate().rev() {
            if let Some(piece) = bytes.chunks(777).nth(round) {
                let short = place == 5 && piece.len() < 777;
                builder.push(place, &piece[usize::from(short)..]).unwrap();
            }
        }
    }
    let name = tensors[5].info.name.clone();
    assert_eq!(builder.finish().unwrap_err(), WeightsError::Missing { name, missing: 1 });

    let mut builder = WeightsBuilder::new(&config, &infos(&tensors)).unwrap();
    builder.push(3, &bytes[3]).unwrap();
    builder.push(3, &[]).unwrap();
    let error = builder.push(3, &[0]).unwrap_err();
    let expected = bytes[3].len();
    let source = MatrixError::Bytes { expected, given: expected + 1 };
    assert_eq!(error, WeightsError::Matrix { name: tensors[3].info.name.clone(), source });
}

#[test]
fn blocks_that_do_not_divide_rows_are_refused() {
    let config = FAMILIES[0].config();
    let mut infos = infos(&tensors(&config));
    let place = infos.iter().position(|info| info.dims == [32, 48]).unwrap();
    infos[place].element = Element::Weights(Dtype::Q8_0);
    let mut builder = WeightsBuilder::new(&config, &infos).unwrap();
    let error = builder.push(place, &[0; 34]).unwrap_err();
    let source = MatrixError::Blocks { dtype: Dtype::Q8_0, columns: 48 };
    assert_eq!(error, WeightsError::Matrix { name: infos[place].name.clone(), source });
}

#[test]
fn numbers_that_are_not_finite_are_refused() {
    let config = FAMILIES[4].config();
    let mut broken = tensors(&config);
    let place = broken.iter().position(|tensor| tensor.info.dims.len() == 1).unwrap();
    broken[place].values[3] = f32::NAN;
    let mut builder = WeightsBuilder::new(&config, &infos(&broken)).unwrap();
    for (place, tensor) in broken.iter().enumerate() {
        builder.push(place, &tensor.bytes()).unwrap();
    }
    let name = broken[place].info.name.clone();
    assert_eq!(builder.finish().unwrap_err(), WeightsError::NotFinite { name, index: 3 });

    for value in [f32::NAN, f32::INFINITY, 1e30] {
        for place in 0..broken.len() {
            let mut broken = tensors(&config);
            if broken[place].info.dims.len() == 1 {
                continue;
            }
            broken[place].values[..40].fill(value);
            for precision in [Precision::Exact, Precision::Fast] {
                let mut decoder = Decoder::new(weights(&config, &broken), precision);
                let mut cache = decoder.cache(100);
                match decoder.forward(&[0, 1, 2], &mut cache, Logits::Last) {
                    Ok(logits) => assert!(logits.iter().all(|logit| logit.is_finite())),
                    Err(DecodeError::NotFinite | DecodeError::Cache(_)) => {
                        assert!(cache.is_empty());
                    }
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}

/// A file of a family.
fn file() -> Vec<u8> {
    let tensors = tensors(&FAMILIES[0].config());
    let mut writer = SafetensorsWriter::new();
    for tensor in &tensors {
        writer.add(&tensor.info.name, &tensor.info.dims, Dtype::F32).unwrap();
    }
    let mut file = Vec::new();
    writer.write(&mut file, |place, out| out.write_all(&tensors[place].bytes())).unwrap();
    file
}

#[test]
fn a_file_that_ends_early_is_an_error() {
    let file = file();
    let config = FAMILIES[0].config();
    for length in (0..file.len()).step_by(97) {
        // The sender says the whole size and stops, or says the size that it sends.
        let mut loader = Loader::safetensors(config.clone(), file.len() as u64);
        loader.push(&file[..length]).unwrap();
        assert_eq!(loader.position(), length as u64);
        assert!(matches!(loader.finish(), Err(LoadError::Container(_))), "{length}");
        let mut loader = Loader::safetensors(config.clone(), length as u64);
        let pushed = loader.push(&file[..length]);
        assert!(pushed.is_err() || loader.finish().is_err(), "{length}");
    }
    let mut loader = Loader::safetensors(config, file.len() as u64);
    loader.push(&file).unwrap();
    loader.finish().unwrap();
}

#[test]
fn nothing_is_taken_after_an_error() {
    let mut loader = Loader::gguf(100);
    assert!(matches!(loader.push(&[b'x'; 64]), Err(LoadError::Container(_))));
    assert_eq!(loader.push(b"GGUF"), Err(LoadError::Failed));
    assert_eq!(loader.finish().unwrap_err(), LoadError::Failed);
    // A description of another family needs other tensors.
    let file = file();
    let mut loader = Loader::safetensors(FAMILIES[6].config(), file.len() as u64);
    let error = loader.push(&file).unwrap_err();
    assert!(
        matches!(
            error,
            LoadError::Weights(WeightsError::Absent { .. } | WeightsError::Shape { .. })
        ),
        "{error}"
    );
}
