//! A small BERT with random weights, as different exporters write it.

use std::collections::BTreeMap;

use prost::Message;
use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::tensor_shape_proto::{Dimension, dimension};
use tract_onnx::pb::type_proto::{Tensor, Value};
use tract_onnx::pb::{
    AttributeProto, GraphProto, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    TensorShapeProto, TypeProto, ValueInfoProto, attribute_proto::AttributeType,
};

pub const WIDTH: usize = 64;
pub const LAYERS: usize = 2;
const INNER: usize = 128;
const HEADS: usize = 4;
const TOKENS: usize = 100;
const POSITIONS: usize = 96;

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// Single floats.
    Floats,
    /// 8-bit integers, a cast, and a factor for each column.
    Cast,
    /// 8-bit integers and DequantizeLinear.
    Dequantized,
    /// 8-bit integers of 0 to 255 around 128, and DequantizeLinear.
    Unsigned,
    /// Products of 8-bit integers with DynamicQuantizeLinear.
    Dynamic,
}

/// How everything else is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// As by the newer exporter of torch.
    Dynamo,
    /// As by its older one, and by optimum.
    Script,
}

pub struct Bert {
    weights: Weights,
    style: Style,
    graph: GraphProto,
    seed: u64,
    names: usize,
}

fn attribute(name: &str, value: &[i64]) -> AttributeProto {
    let list = matches!(name, "perm" | "axes");
    let kind = if list { AttributeType::Ints } else { AttributeType::Int };
    let (ints, i) = if list { (value.to_vec(), 0) } else { (Vec::new(), value[0]) };
    AttributeProto {
        name: name.to_owned(),
        r#type: kind.into(),
        ints,
        i,
        ..AttributeProto::default()
    }
}

impl Bert {
    /// The model file.
    pub fn bytes(weights: Weights, style: Style) -> Vec<u8> {
        let graph = GraphProto { name: "bert".to_owned(), ..GraphProto::default() };
        let mut this = Self { weights, style, graph, seed: 7, names: 0 };
        this.build();
        let opset = OperatorSetIdProto { domain: String::new(), version: 17 };
        ModelProto {
            ir_version: 8,
            opset_import: vec![opset],
            graph: Some(this.graph),
            ..ModelProto::default()
        }
        .encode_to_vec()
    }

    fn random(&mut self) -> f32 {
        self.seed = self
            .seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        f32::from(u16::try_from(self.seed >> 48).unwrap()) / 32_768.0 - 1.0
    }

    fn node(&mut self, kind: &str, inputs: &[&str], attributes: &[(&str, &[i64])]) -> String {
        self.names += 1;
        let output = format!("v{}", self.names);
        self.graph.node.push(NodeProto {
            name: format!("n{}", self.names),
            op_type: kind.to_owned(),
            input: inputs.iter().map(|&input| input.to_owned()).collect(),
            output: vec![output.clone()],
            attribute: attributes.iter().map(|(name, value)| attribute(name, value)).collect(),
            ..NodeProto::default()
        });
        output
    }

    fn tensor(&mut self, dims: &[usize], kind: DataType, raw_data: Vec<u8>) -> String {
        self.names += 1;
        let name = format!("c{}", self.names);
        let dims = dims.iter().map(|dim| i64::try_from(*dim).unwrap()).collect();
        self.graph.initializer.push(TensorProto {
            name: name.clone(),
            dims,
            data_type: kind.into(),
            raw_data,
            ..TensorProto::default()
        });
        name
    }

    fn floats(&mut self, dims: &[usize], values: &[f32]) -> String {
        self.tensor(
            dims,
            DataType::Float,
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    fn integers(&mut self, values: &[i64]) -> String {
        self.tensor(
            &[values.len()],
            DataType::Int64,
            values.iter().flat_map(|value| value.to_le_bytes()).collect(),
        )
    }

    fn number(&mut self, value: f32) -> String {
        self.floats(&[], &[value])
    }

    fn vector(&mut self, length: usize, around: f32, by: f32) -> String {
        let values: Vec<f32> = (0..length).map(|_| around + by * self.random()).collect();
        self.floats(&[length], &values)
    }

    /// A matrix of 8-bit integers, and `scales` scales.
    fn quantized(&mut self, dims: [usize; 2], scales: usize) -> (Vec<i8>, Vec<f32>) {
        #[allow(clippy::cast_possible_truncation)]
        let q = (0..dims[0] * dims[1]).map(|_| (self.random() * 127.0) as i8).collect();
        (q, (0..scales).map(|_| 0.0015 + 0.0005 * self.random()).collect())
    }

    fn bytes_of(&mut self, dims: [usize; 2], q: &[i8]) -> String {
        let unsigned = self.weights == Weights::Unsigned;
        let bytes = q.iter().map(|q| q.cast_unsigned() ^ if unsigned { 0x80 } else { 0 }).collect();
        self.tensor(&dims, if unsigned { DataType::Uint8 } else { DataType::Int8 }, bytes)
    }

    fn zero(&mut self) -> String {
        if self.weights == Weights::Unsigned {
            self.tensor(&[], DataType::Uint8, vec![128])
        } else {
            self.tensor(&[], DataType::Int8, vec![0])
        }
    }

    fn table(&mut self, rows: usize, numbers: &str) -> String {
        let (q, scales) =
            self.quantized([rows, WIDTH], if self.weights == Weights::Cast { rows } else { 1 });
        if self.weights == Weights::Floats {
            let values: Vec<f32> = q.iter().map(|q| f32::from(*q) * scales[0]).collect();
            let table = self.floats(&[rows, WIDTH], &values);
            return self.node("Gather", &[&table, numbers], &[]);
        }
        let bytes = self.bytes_of([rows, WIDTH], &q);
        if self.weights == Weights::Cast {
            let cast = self.node("Cast", &[&bytes], &[("to", &[1])]);
            let scales = self.floats(&[rows, 1], &scales);
            let table = self.node("Mul", &[&cast, &scales], &[]);
            return self.node("Gather", &[&table, numbers], &[("axis", &[0])]);
        }
        let rows = self.node("Gather", &[&bytes, numbers], &[]);
        let (scale, zero) = (self.number(scales[0]), self.zero());
        self.node("DequantizeLinear", &[&rows, &scale, &zero], &[])
    }

    fn linear(&mut self, x: &str, inputs: usize, outputs: usize) -> String {
        let (q, scales) = self.quantized([inputs, outputs], outputs);
        let product = match self.weights {
            Weights::Floats => {
                let values: Vec<f32> = q
                    .iter()
                    .enumerate()
                    .map(|(at, q)| f32::from(*q) * scales[at % outputs])
                    .collect();
                let matrix = self.floats(&[inputs, outputs], &values);
                self.node("MatMul", &[x, &matrix], &[])
            }
            Weights::Cast => {
                let bytes = self.bytes_of([inputs, outputs], &q);
                let cast = self.node("Cast", &[&bytes], &[("to", &[1])]);
                let scales = self.floats(&[1, outputs], &scales);
                let matrix = self.node("Mul", &[&cast, &scales], &[]);
                self.node("MatMul", &[x, &matrix], &[])
            }
            Weights::Dequantized | Weights::Unsigned => {
                let bytes = self.bytes_of([inputs, outputs], &q);
                let scales = self.floats(&[outputs], &scales);
                let kind = if self.weights == Weights::Unsigned {
                    DataType::Uint8
                } else {
                    DataType::Int8
                };
                let zeros = self.tensor(
                    &[outputs],
                    kind,
                    vec![if self.weights == Weights::Unsigned { 128 } else { 0 }; outputs],
                );
                let matrix =
                    self.node("DequantizeLinear", &[&bytes, &scales, &zeros], &[("axis", &[1])]);
                self.node("MatMul", &[x, &matrix], &[])
            }
            Weights::Dynamic => {
                let steps = self.node("DynamicQuantizeLinear", &[x], &[]);
                let (size, of_zero) = (format!("{steps}_scale"), format!("{steps}_zero"));
                self.graph.node.last_mut().unwrap().output.extend([size.clone(), of_zero.clone()]);
                let (bytes, zero) = (self.bytes_of([inputs, outputs], &q), self.zero());
                let scale = self.number(scales[0]);
                let sums = self.node("MatMulInteger", &[&steps, &bytes, &of_zero, &zero], &[]);
                let cast = self.node("Cast", &[&sums], &[("to", &[1])]);
                let scale = self.node("Mul", &[&size, &scale], &[]);
                self.node("Mul", &[&cast, &scale], &[])
            }
        };
        let bias = self.vector(outputs, 0.0, 0.1);
        // Either way round.
        if self.style == Style::Dynamo {
            self.node("Add", &[&product, &bias], &[])
        } else {
            self.node("Add", &[&bias, &product], &[])
        }
    }

    fn norm(&mut self, x: &str) -> String {
        let (scale, bias) = (self.vector(WIDTH, 1.0, 0.1), self.vector(WIDTH, 0.0, 0.1));
        if self.style == Style::Dynamo {
            let output = self.node("LayerNormalization", &[x, &scale, &bias], &[("axis", &[-1])]);
            let mut epsilon = attribute("epsilon", &[0]);
            (epsilon.r#type, epsilon.f) = (AttributeType::Float.into(), 1e-6);
            self.graph.node.last_mut().unwrap().attribute.push(epsilon);
            return output;
        }
        let mean = self.node("ReduceMean", &[x], &[("axes", &[-1]), ("keepdims", &[1])]);
        let difference = self.node("Sub", &[x, &mean], &[]);
        let two = self.number(2.0);
        let square = self.node("Pow", &[&difference, &two], &[]);
        let variance = self.node("ReduceMean", &[&square], &[("axes", &[-1])]);
        let epsilon = self.number(1e-6);
        let sum = self.node("Add", &[&variance, &epsilon], &[]);
        let deviation = self.node("Sqrt", &[&sum], &[]);
        let normal = self.node("Div", &[&difference, &deviation], &[]);
        let scaled = self.node("Mul", &[&normal, &scale], &[]);
        self.node("Add", &[&scaled, &bias], &[])
    }

    fn gelu(&mut self, x: &str) -> String {
        let (root, one, half) =
            (self.number(std::f32::consts::SQRT_2), self.number(1.0), self.number(0.5));
        let part = self.node("Div", &[x, &root], &[]);
        let erf = self.node("Erf", &[&part], &[]);
        let sum = self.node("Add", &[&erf, &one], &[]);
        if self.style == Style::Dynamo {
            let factor = self.node("Mul", &[&half, &sum], &[]);
            return self.node("Mul", &[x, &factor], &[]);
        }
        let product = self.node("Mul", &[x, &sum], &[]);
        self.node("Mul", &[&product, &half], &[])
    }

    fn attention(&mut self, x: &str, mask: &str) -> String {
        let [q, k, v] = [0; 3].map(|_| self.linear(x, WIDTH, WIDTH));
        let width = i64::try_from(WIDTH / HEADS).unwrap();
        let heads = i64::try_from(HEADS).unwrap();
        let parts =
            self.integers(&[0, 0, if self.style == Style::Dynamo { -1 } else { heads }, width]);
        let style = self.style;
        let mut split = |x: &str, order: &[i64]| {
            let split = self.node("Reshape", &[x, &parts], &[]);
            self.node("Transpose", &[&split], &[("perm", order)])
        };
        let (q, v) = (split(&q, &[0, 2, 1, 3]), split(&v, &[0, 2, 1, 3]));
        let context = if style == Style::Dynamo {
            let k = split(&k, &[0, 2, 1, 3]);
            let k = self.node("Transpose", &[&k], &[("perm", &[0, 1, 3, 2])]);
            #[allow(clippy::cast_precision_loss)]
            let root = self.number((1.0 / width as f32).sqrt().sqrt());
            let (q, k) = (self.node("Mul", &[&q, &root], &[]), self.node("Mul", &[&k, &root], &[]));
            let scores = self.node("MatMul", &[&q, &k], &[]);
            let scores = self.node("Add", &[&scores, mask], &[]);
            let softmax = self.node("Softmax", &[&scores], &[("axis", &[-1])]);
            let (is_nan, zero) = (self.node("IsNaN", &[&softmax], &[]), self.number(0.0));
            let softmax = self.node("Where", &[&is_nan, &zero, &softmax], &[]);
            self.node("MatMul", &[&softmax, &v], &[])
        } else {
            let k = split(&k, &[0, 2, 3, 1]);
            let scores = self.node("MatMul", &[&q, &k], &[]);
            #[allow(clippy::cast_precision_loss)]
            let root = self.number((width as f32).sqrt());
            let scores = self.node("Div", &[&scores, &root], &[]);
            let scores = self.node("Add", &[&scores, mask], &[]);
            let softmax = self.node("Softmax", &[&scores], &[("axis", &[-1])]);
            self.node("MatMul", &[&softmax, &v], &[])
        };
        let context = self.node("Transpose", &[&context], &[("perm", &[0, 2, 1, 3])]);
        let whole = self.integers(&[0, 0, i64::try_from(WIDTH).unwrap()]);
        let context = self.node("Reshape", &[&context, &whole], &[]);
        self.linear(&context, WIDTH, WIDTH)
    }

    fn build(&mut self) {
        for name in ["input_ids", "attention_mask", "token_type_ids"] {
            let dims = ["batch", "sequence"].map(|name| Dimension {
                value: Some(dimension::Value::DimParam(name.to_owned())),
                ..Dimension::default()
            });
            let shape = Some(TensorShapeProto { dim: dims.into() });
            let value =
                Some(Value::TensorType(Tensor { elem_type: DataType::Int64.into(), shape }));
            let kind = Some(TypeProto { value, ..TypeProto::default() });
            self.graph.input.push(ValueInfoProto {
                name: name.to_owned(),
                r#type: kind,
                ..ValueInfoProto::default()
            });
        }
        let words = self.table(TOKENS, "input_ids");
        let types: Vec<f32> = (0..2 * WIDTH).map(|_| 0.1 * self.random()).collect();
        let types = self.floats(&[2, WIDTH], &types);
        let types = self.node("Gather", &[&types, "token_type_ids"], &[]);
        let all = self.integers(&(0..i64::try_from(POSITIONS).unwrap()).collect::<Vec<_>>());
        let shape = self.node("Shape", &["input_ids"], &[]);
        let (first, second) = (self.integers(&[1]), self.integers(&[2]));
        let length = self.node("Slice", &[&shape, &first, &second], &[]);
        let (start, axis) = (self.integers(&[0]), self.integers(&[0]));
        let numbers = self.node("Slice", &[&all, &start, &length, &axis], &[]);
        let numbers = self.node("Unsqueeze", &[&numbers, &axis], &[]);
        let positions = self.table(POSITIONS, &numbers);
        let sum = self.node("Add", &[&words, &types], &[]);
        let sum = self.node("Add", &[&sum, &positions], &[]);
        let mut x = self.norm(&sum);

        let heads_and_queries = self.integers(&[1, 2]);
        let mask = self.node("Unsqueeze", &["attention_mask", &heads_and_queries], &[]);
        let mask = self.node("Cast", &[&mask], &[("to", &[1])]);
        let (one, least) = (self.number(1.0), self.number(-10_000.0));
        let mask = self.node("Sub", &[&one, &mask], &[]);
        let mask = self.node("Mul", &[&mask, &least], &[]);
        for _ in 0..LAYERS {
            let attended = self.attention(&x, &mask);
            let sum = self.node("Add", &[&attended, &x], &[]);
            let normal = self.norm(&sum);
            let inner = self.linear(&normal, WIDTH, INNER);
            let inner = self.gelu(&inner);
            let outer = self.linear(&inner, INNER, WIDTH);
            let sum = self.node("Add", &[&outer, &normal], &[]);
            x = self.norm(&sum);
        }
        self.graph.node.last_mut().unwrap().output = vec!["last_hidden_state".to_owned()];
        self.graph.output.push(ValueInfoProto {
            name: "last_hidden_state".to_owned(),
            ..ValueInfoProto::default()
        });
    }
}

/// Number of each of this crate's operators, if all parts are recognized.
pub fn all_ours() -> BTreeMap<String, usize> {
    [("Linear8", 6 * LAYERS), ("Attention", LAYERS), ("LayerNorm", 2 * LAYERS + 1), ("Lookup8", 2)]
        .into_iter()
        .map(|(name, count)| (name.to_owned(), count))
        .collect()
}
