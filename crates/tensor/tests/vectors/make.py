"""Makes the files in this folder: python make.py, with the packages gguf 0.19.0, safetensors 0.8.0
and numpy 2.4.6. The tests build the same files with our writers and expect the same bytes."""

import os

import numpy as np
from gguf import GGUFReader, GGUFValueType, GGUFWriter, GGMLQuantizationType
from gguf.quants import quantize
from safetensors.numpy import save_file

os.chdir(os.path.dirname(os.path.abspath(__file__)))


def floats(*shape):
    """Multiples of 1/8, from -4 to 4."""
    count = int(np.prod(shape))
    return (((np.arange(count) * 37) % 65 - 32) / 8).astype(np.float32).reshape(shape)


def gguf(path, alignment):
    out = GGUFWriter(path, "llama")
    if alignment:
        out.add_custom_alignment(alignment)
    out.add_uint8("value.u8", 200)
    out.add_int8("value.i8", -100)
    out.add_uint16("value.u16", 60000)
    out.add_int16("value.i16", -30000)
    out.add_uint32("value.u32", 4000000000)
    out.add_int32("value.i32", -2000000000)
    out.add_float32("value.f32", 0.5)
    out.add_bool("value.bool", True)
    out.add_string("value.string", "Größe 😀")
    out.add_uint64("value.u64", 2**64 - 1)
    out.add_int64("value.i64", -(2**63))
    out.add_float64("value.f64", 1e300)
    kinds = [("u8", GGUFValueType.UINT8), ("i8", GGUFValueType.INT8)]
    kinds += [("u16", GGUFValueType.UINT16), ("i16", GGUFValueType.INT16)]
    kinds += [("u32", GGUFValueType.UINT32), ("i32", GGUFValueType.INT32)]
    kinds += [("u64", GGUFValueType.UINT64), ("i64", GGUFValueType.INT64)]
    for name, kind in kinds:
        out.add_key_value(f"array.{name}", [1, 2, 3], GGUFValueType.ARRAY, kind)
    out.add_key_value("array.f32", [0.5, -1.0], GGUFValueType.ARRAY, GGUFValueType.FLOAT32)
    out.add_key_value("array.f64", [0.25, -1e300], GGUFValueType.ARRAY, GGUFValueType.FLOAT64)
    out.add_array("array.bool", [True, False, True])
    out.add_array("array.string", ["", "a", "Ġthe"])
    out.add_array("array.array", [["x"], ["y", "z"]])
    out.add_tensor("matrix", floats(3, 32))
    out.add_tensor("half", floats(2, 5).astype(np.float16))
    kind = GGMLQuantizationType.Q8_0
    out.add_tensor("quantized", quantize(floats(4, 64), kind), raw_dtype=kind)
    kind = GGMLQuantizationType.BF16
    out.add_tensor("cube", quantize(floats(2, 3, 4), kind), raw_dtype=kind)
    out.add_tensor("vector", floats(7))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    assert [tensor.name for tensor in GGUFReader(path).tensors][-1] == "vector"


gguf("small.gguf", None)
gguf("aligned.gguf", 128)
tensors = {"b.matrix": floats(3, 4), "a.half": floats(5).astype(np.float16), "z.vector": floats(2)}
save_file(tensors, "small.safetensors", {"format": "pt \"quoted\" é"})
tensors = {"weight": floats(2, 2), "positions": np.arange(3), "mask": np.array([True, False])}
save_file(tensors | {"empty": floats(0, 4)}, "others.safetensors")
