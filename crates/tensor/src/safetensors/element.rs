//! Names of element types (`enum Dtype` of the crate `safetensors`).

use crate::Dtype;
use crate::container::Element;

/// Types that the format knows and the engine does not, with the bits of an element.
const OTHERS: [(&str, u64); 19] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("I32", 32),
    ("U32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// Types of both, with the bits of an element.
const WEIGHTS: [(Dtype, u64); 3] = [(Dtype::F32, 32), (Dtype::Bf16, 16), (Dtype::F16, 16)];

/// The type with this name, and the bits of an element.
pub(super) fn named(name: &str) -> Option<(Element, u64)> {
    let weights = WEIGHTS.iter().find(|(dtype, _)| dtype.name() == name);
    let weights = weights.map(|(dtype, bits)| (Element::Weights(*dtype), *bits));
    let other = || OTHERS.iter().find(|(other, _)| *other == name);
    weights.or_else(|| other().map(|(name, bits)| (Element::Other(name), *bits)))
}

/// The place of a type in the order of the reference's writer, which puts wide types first; `None`
/// for types that the format does not have.
pub(super) fn order(dtype: Dtype) -> Option<usize> {
    WEIGHTS.iter().position(|(other, _)| *other == dtype)
}
