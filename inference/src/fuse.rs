//! Finds, in a graph as exporters write it, what our kernels do in one step, and keeps 8-bit weights as they are.
//!
//! A part that is recognised is replaced by one node, in place of the last of its nodes; what nobody needs any more is dropped
//! afterwards. What is not recognised stays, and tract does it: slower, and as right.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tract_onnx::pb::tensor_proto::DataType;
use tract_onnx::pb::{AttributeProto, GraphProto, NodeProto, TensorProto};

use crate::kernel::linear::{Activation, Weights};
use crate::onnx::Bytes;
use crate::ops::{Attention, Fused, Linear, Norm, Table};

/// What a node of ours is called, until it is given its operator.
pub const PLACEHOLDER: &str = "EdgeNetFused";

/// A graph that is rewritten.
struct Graph {
    nodes: Vec<NodeProto>,
    /// The node that makes a value, by the value's name.
    makers: HashMap<String, usize>,
    constants: HashMap<String, TensorProto>,
    large: HashMap<String, Bytes>,
    /// Values that somebody needs besides the nodes.
    outputs: HashSet<String>,
    /// All constants that there were.
    were: HashSet<String>,
    fused: HashMap<String, Fused>,
    /// What was packed for a matrix, since exporters share them.
    packed: HashMap<String, Arc<Linear>>,
    tables: HashMap<String, Arc<Table>>,
}

/// Rewrites `graph`; what each of the nodes called [`PLACEHOLDER`] does, by the node's name. Large tensors that were not recognised
/// become ordinary ones.
pub fn fuse(graph: &mut GraphProto, large: HashMap<String, Bytes>) -> HashMap<String, Fused> {
    let nodes = std::mem::take(&mut graph.node);
    let makers = makers(&nodes);
    let constants: HashMap<String, TensorProto> =
        std::mem::take(&mut graph.initializer).into_iter().map(|tensor| (tensor.name.clone(), tensor)).collect();
    let were = constants.keys().chain(large.keys()).cloned().collect();
    let outputs = graph.output.iter().map(|output| output.name.clone()).collect();
    let mut this = Graph {
        nodes,
        makers,
        constants,
        large,
        outputs,
        were,
        fused: HashMap::new(),
        packed: HashMap::new(),
        tables: HashMap::new(),
    };
    for step in [Graph::lookup, Graph::product, Graph::bias, Graph::gelu, Graph::norm, Graph::attention, Graph::heads] {
        for at in 0..this.nodes.len() {
            if let Some((fused, inputs)) = step(&mut this, at) {
                this.replace(at, fused, inputs);
            }
        }
        this.drop_unused();
    }
    this.put_back(graph);
    this.fused
}

fn makers(nodes: &[NodeProto]) -> HashMap<String, usize> {
    let outputs = nodes.iter().enumerate().flat_map(|(at, node)| node.output.iter().map(move |output| (output.clone(), at)));
    outputs.collect()
}

/// What a step finds at a node: the operator that replaces it, and that one's inputs.
type Found = Option<(Fused, Vec<String>)>;

impl Graph {
    fn replace(&mut self, at: usize, fused: Fused, inputs: Vec<String>) {
        let output = self.nodes[at].output[0].clone();
        let name = format!("{PLACEHOLDER}/{output}");
        self.fused.insert(name.clone(), fused);
        self.nodes[at] =
            NodeProto { name, op_type: PLACEHOLDER.to_owned(), input: inputs, output: vec![output], ..NodeProto::default() };
    }

    /// Drops nodes, and constants, whose values nobody needs.
    fn drop_unused(&mut self) {
        let mut needed = self.outputs.clone();
        // Nodes come after those that they need (ONNX demands that).
        let mut kept: Vec<NodeProto> = Vec::with_capacity(self.nodes.len());
        for node in std::mem::take(&mut self.nodes).into_iter().rev() {
            if node.output.iter().any(|output| needed.contains(output)) {
                needed.extend(node.input.iter().cloned());
                needed.extend(captured(&node));
                kept.push(node);
            }
        }
        kept.reverse();
        self.nodes = kept;
        self.makers = makers(&self.nodes);
        self.constants.retain(|name, _| needed.contains(name));
        self.large.retain(|name, _| needed.contains(name));
    }

    fn put_back(&mut self, graph: &mut GraphProto) {
        graph.node = std::mem::take(&mut self.nodes);
        let large = std::mem::take(&mut self.large).into_iter().map(|(name, bytes)| TensorProto {
            name,
            dims: bytes.dims.iter().map(|dim| *dim as i64).collect(),
            data_type: (if bytes.signed { DataType::Int8 } else { DataType::Uint8 }).into(),
            raw_data: bytes.values,
            ..TensorProto::default()
        });
        graph.initializer = std::mem::take(&mut self.constants).into_values().chain(large).collect();
        graph.initializer.sort_by(|a, b| a.name.cmp(&b.name));
        let kept: HashSet<&str> = graph.initializer.iter().map(|tensor| &*tensor.name).collect();
        // Old exporters list constants as inputs too.
        graph.input.retain(|input| kept.contains(&*input.name) || !self.were.contains(&input.name));
        // What is said of values that are gone, or made otherwise now, is not needed: tract infers it.
        graph.value_info.clear();
    }

    fn maker(&self, value: &str) -> Option<&NodeProto> {
        self.makers.get(value).map(|at| &self.nodes[*at])
    }

    /// The node that makes `value`, if it is of this kind.
    fn made_by(&self, value: &str, kind: &str) -> Option<&NodeProto> {
        self.maker(value).filter(|node| node.op_type == kind)
    }

    fn fused_by(&self, value: &str) -> Option<(&Fused, &NodeProto)> {
        let node = self.made_by(value, PLACEHOLDER)?;
        Some((self.fused.get(&node.name)?, node))
    }

    fn users(&self, value: &str) -> usize {
        let inputs = self.nodes.iter().flat_map(|node| &node.input).filter(|input| *input == value).count();
        inputs + usize::from(self.outputs.contains(value))
    }

    /// The inputs of a node of two, one of which is constant: the other, and that constant.
    fn with_constant(&self, node: &NodeProto) -> Option<(String, Vec<f32>)> {
        let [a, b] = node.input.as_slice() else { return None };
        let of = |constant: &str| self.floats(constant);
        match (of(a), of(b)) {
            (None, Some(constant)) => Some((a.clone(), constant)),
            (Some(constant), None) => Some((b.clone(), constant)),
            _ => None,
        }
    }

    /// `x` and `c`, where `value` is made of `x` by `kind` with one number `c`.
    fn by_number(&self, value: &str, kind: &str) -> Option<(String, f32)> {
        let (x, constant) = self.with_constant(self.made_by(value, kind)?)?;
        if let [c] = *constant { Some((x, c)) } else { None }
    }

    fn constant(&self, name: &str) -> Option<std::borrow::Cow<'_, TensorProto>> {
        if let Some(tensor) = self.constants.get(name) {
            return Some(std::borrow::Cow::Borrowed(tensor));
        }
        let node = self.maker(name)?;
        match &*node.op_type {
            "Constant" => Some(std::borrow::Cow::Owned(attribute(node, "value")?.t.clone()?)),
            "Identity" => self.constant(node.input.first()?),
            _ => None,
        }
    }

    /// A constant of single floats.
    fn floats(&self, name: &str) -> Option<Vec<f32>> {
        let tensor = self.constant(name)?;
        if DataType::try_from(tensor.data_type).ok()? != DataType::Float {
            return None;
        }
        if tensor.raw_data.is_empty() {
            return Some(tensor.float_data.clone());
        }
        Some(tensor.raw_data.as_chunks::<4>().0.iter().map(|four| f32::from_le_bytes(*four)).collect())
    }

    /// A constant of 64-bit integers.
    fn integers(&self, name: &str) -> Option<Vec<i64>> {
        let tensor = self.constant(name)?;
        if DataType::try_from(tensor.data_type).ok()? != DataType::Int64 {
            return None;
        }
        if tensor.raw_data.is_empty() {
            return Some(tensor.int64_data.clone());
        }
        Some(tensor.raw_data.as_chunks::<8>().0.iter().map(|eight| i64::from_le_bytes(*eight)).collect())
    }

    /// What `value` is, if it is made of a large tensor: that one's name, the scales, and what stands for 0.
    fn dequantised(&self, value: &str) -> Option<(String, Vec<f32>, i16)> {
        let node = self.maker(value)?;
        let (q, scales, zero) = match &*node.op_type {
            "Mul" => {
                let (cast, scales) = self.with_constant(node)?;
                let cast = self.made_by(&cast, "Cast")?;
                (cast.input.first()?, scales, 0)
            }
            "DequantizeLinear" => {
                let [q, scales, zero @ ..] = node.input.as_slice() else { return None };
                let zero = match zero.first() {
                    None => 0,
                    Some(zero) => self.byte(zero)?,
                };
                (q, self.floats(scales)?, zero)
            }
            _ => return None,
        };
        let [rows, columns] = *self.large.get(q)?.dims else { return None };
        (rows > 0 && columns > 0).then(|| (q.clone(), scales, zero))
    }

    /// The one value of a constant of 8-bit integers; of several, if they are all the same.
    fn byte(&self, name: &str) -> Option<i16> {
        let tensor = self.constant(name)?;
        let signed = match DataType::try_from(tensor.data_type).ok()? {
            DataType::Int8 => true,
            DataType::Uint8 => false,
            _ => return None,
        };
        let raw = tensor.raw_data.iter().map(|byte| if signed { i16::from(byte.cast_signed()) } else { i16::from(*byte) });
        let listed = tensor.int32_data.iter().filter_map(|value| i16::try_from(*value).ok());
        let mut values = raw.chain(listed);
        let first = values.next()?;
        values.all(|value| value == first).then_some(first)
    }

    /// Whether the scales of a matrix of `rows` × `columns` are told along its rows or its columns is told by their shape.
    fn scale_dims(&self, value: &str) -> Option<Vec<i64>> {
        let node = self.maker(value)?;
        let dims = |name: &str| self.constant(name).map(|tensor| tensor.dims.clone());
        match &*node.op_type {
            "Mul" => node.input.iter().find_map(|input| dims(input)),
            _ => {
                let axis = attribute(node, "axis").map_or(1, |attribute| attribute.i);
                let dims = dims(node.input.get(1)?)?;
                Some(match *dims {
                    [n] if n > 1 => {
                        if axis == 0 {
                            vec![n, 1]
                        } else {
                            vec![1, n]
                        }
                    }
                    _ => vec![1, 1],
                })
            }
        }
    }

    /// Rows of a table, by their numbers.
    fn lookup(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        if node.op_type != "Gather" || attribute(node, "axis").is_some_and(|axis| axis.i != 0) {
            return None;
        }
        let [table, numbers] = node.input.as_slice() else { return None };
        let (table, numbers) = (table.clone(), numbers.clone());
        if let Some(known) = self.tables.get(&table) {
            return Some((Fused::Lookup(Arc::clone(known)), vec![numbers]));
        }
        let (q, scales, zero) = self.dequantised(&table)?;
        let along = self.scale_dims(&table)?;
        let of_rows = matches!(*along, [n, 1] if n as usize == scales.len());
        if scales.len() != 1 && !of_rows {
            return None;
        }
        // Somebody may need it besides; then it is there twice.
        let bytes =
            if self.users(&q) == 1 && self.users(&table) == 1 { self.large.remove(&q)? } else { copy(self.large.get(&q)?) };
        if scales.len() != 1 && scales.len() != bytes.dims[0] {
            return None;
        }
        let made = Arc::new(Table { width: bytes.dims[1], values: bytes.values, signed: bytes.signed, scales, zero });
        self.tables.insert(table, Arc::clone(&made));
        Some((Fused::Lookup(made), vec![numbers]))
    }

    /// A product with a constant matrix.
    fn product(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        if node.op_type != "MatMul" {
            return None;
        }
        let [x, matrix] = node.input.as_slice() else { return None };
        let (x, matrix) = (x.clone(), matrix.clone());
        let linear = if let Some(known) = self.packed.get(&matrix) {
            Arc::clone(known)
        } else {
            let weights = self.weights(&matrix)?;
            let made = Arc::new(Linear { weights, bias: None, activation: Activation::None });
            self.packed.insert(matrix, Arc::clone(&made));
            made
        };
        Some((Fused::Linear(linear), vec![x]))
    }

    fn weights(&mut self, matrix: &str) -> Option<Weights> {
        let (q, scales, zero) = self.dequantised(matrix)?;
        let along = self.scale_dims(matrix)?;
        let bytes = self.large.get(&q)?;
        let (rows, columns) = (bytes.dims[0], bytes.dims[1]);
        let scales: Box<[f32]> = match (scales.len(), &*along) {
            (1, _) => vec![scales[0]; columns].into(),
            (n, [.., last]) if n == columns && *last == n as i64 => scales.into(),
            _ => return None,
        };
        let value = |row: usize, column: usize| {
            let byte = bytes.values[row * columns + column];
            let value = if bytes.signed { i16::from(byte.cast_signed()) } else { i16::from(byte) };
            value - zero
        };
        // Of unsigned ones around a 0 that is not in the middle, some have no place in 8 bits.
        let fits =
            (zero == 0 && bytes.signed) || (0..rows * columns).all(|at| i8::try_from(value(at / columns, at % columns)).is_ok());
        if !fits {
            return None;
        }
        #[allow(clippy::cast_possible_truncation)] // They fit, see above.
        let weights = Weights::pack(|row, column| value(row, column) as i8, rows, scales);
        // Not needed any more, while others are still to be packed.
        if self.users(&q) == 1 && self.users(matrix) == 1 {
            self.large.remove(&q);
        }
        Some(weights)
    }

    /// A product, then an addition of what is constant.
    fn bias(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        if node.op_type != "Add" {
            return None;
        }
        let (product, bias) = self.with_constant(node)?;
        if self.users(&product) > 1 {
            return None;
        }
        self.extended(
            &product,
            |linear| linear.bias.is_none() && bias.len() == linear.weights.outputs(),
            |linear| {
                linear.bias = Some(bias.clone().into());
            },
        )
    }

    /// A product's operator with something more, if nobody else needs the product itself.
    fn extended(&mut self, product: &str, may: impl Fn(&Linear) -> bool, extend: impl Fn(&mut Linear)) -> Found {
        let (fused, node) = self.fused_by(product)?;
        let Fused::Linear(linear) = fused else { return None };
        if !may(linear) {
            return None;
        }
        let (name, inputs) = (node.name.clone(), node.input.clone());
        self.packed.retain(|_, known| Arc::strong_count(known) > 2);
        let Some(Fused::Linear(linear)) = self.fused.remove(&name) else { return None };
        match Arc::try_unwrap(linear) {
            Ok(mut linear) => {
                extend(&mut linear);
                Some((Fused::Linear(Arc::new(linear)), inputs))
            }
            // The matrix is somebody else's too.
            Err(shared) => {
                self.fused.insert(name, Fused::Linear(shared));
                None
            }
        }
    }

    /// x Φ(x) of a product: `x × (0.5 × (1 + erf(x / √2)))`, however that is put together.
    fn gelu(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        let x = match &*node.op_type {
            "Mul" => self.gelu_of(&node.output[0])?,
            "Gelu" if attribute(node, "approximate").is_none_or(|how| how.s == b"none") => node.input.first()?.clone(),
            _ => return None,
        };
        // By its parts, one takes it for `erf`, and one for the product; nobody else may.
        let inner = if node.op_type == "Mul" { 2 } else { 1 };
        if self.users(&x) > inner {
            return None;
        }
        self.extended(&x, |linear| linear.activation == Activation::None, |linear| linear.activation = Activation::Gelu)
    }

    fn gelu_of(&self, value: &str) -> Option<String> {
        let mut factors = vec![value.to_owned()];
        let (mut half, mut erf, mut others) = (1.0, None, Vec::new());
        while let Some(factor) = factors.pop() {
            if let Some(constant) = self.floats(&factor) {
                let [c] = *constant else { return None };
                half *= c;
            } else if let Some(x) = self.one_and_erf(&factor) {
                erf = Some(x);
            } else if let Some(node) = self.made_by(&factor, "Mul") {
                factors.extend(node.input.iter().cloned());
            } else {
                others.push(factor);
            }
        }
        let x = erf?;
        ((half - 0.5_f32).abs() < 1e-6 && others == [x.as_str()]).then_some(x)
    }

    /// x, where `value` is `1 + erf(x / √2)`.
    fn one_and_erf(&self, value: &str) -> Option<String> {
        let (erf, one) = self.by_number(value, "Add")?;
        let erf = self.made_by(&erf, "Erf")?.input.first()?;
        let root = std::f32::consts::SQRT_2;
        let of = |kind, factor: f32| self.by_number(erf, kind).filter(|(_, c)| (c - factor).abs() < 1e-5);
        let (x, _) = of("Div", root).or_else(|| of("Mul", 1.0 / root))?;
        (one == 1.0).then_some(x)
    }

    /// Layer normalisation, by its own operator or by its parts; of a sum, if that is all the sum is for.
    fn norm(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        let (x, norm) = match &*node.op_type {
            "LayerNormalization" if node.output.iter().skip(1).all(String::is_empty) => {
                let [x, scale, bias @ ..] = node.input.as_slice() else { return None };
                let scale = self.floats(scale)?;
                let bias = match bias.first() {
                    Some(bias) => self.floats(bias)?,
                    None => vec![0.0; scale.len()],
                };
                let epsilon = attribute(node, "epsilon").map_or(1e-5, |epsilon| epsilon.f);
                let last = attribute(node, "axis").is_none_or(|axis| axis.i == -1);
                if !last {
                    return None;
                }
                (x.clone(), Norm { scale, bias, epsilon })
            }
            "Add" => self.norm_by_parts(node)?,
            _ => return None,
        };
        if norm.scale.len() != norm.bias.len() || norm.scale.len() < 2 {
            return None;
        }
        let inputs = match self.made_by(&x, "Add").map(|add| add.input.clone()) {
            // The sum itself is not needed but for this: each part of a norm by parts needs it.
            Some(summands) if !summands.iter().any(|summand| self.constant(summand).is_some()) && self.only_for(&x, at) => {
                summands
            }
            _ => vec![x],
        };
        Some((Fused::Norm(Arc::new(norm)), inputs))
    }

    /// Whether `value` is used by the node at `at` only, or by those that only this one needs.
    fn only_for(&self, value: &str, at: usize) -> bool {
        let mut below = HashSet::from([at]);
        let mut open = vec![at];
        while let Some(node) = open.pop() {
            for input in self.nodes[node].input.iter().filter(|input| *input != value) {
                if let Some(maker) = self.makers.get(input)
                    && below.len() < 16
                    && below.insert(*maker)
                {
                    open.push(*maker);
                }
            }
        }
        let users = self.nodes.iter().enumerate().filter(|(_, node)| node.input.iter().any(|input| input == value));
        !self.outputs.contains(value) && users.map(|(user, _)| user).all(|user| below.contains(&user))
    }

    /// `(x - mean) / sqrt(mean((x - mean)²) + ε) × scale + bias`.
    fn norm_by_parts(&self, node: &NodeProto) -> Option<(String, Norm)> {
        let (scaled, bias) = self.with_constant(node)?;
        let (normal, scale) = self.with_constant(self.made_by(&scaled, "Mul")?)?;
        let [difference, deviation] = self.made_by(&normal, "Div")?.input.as_slice() else { return None };
        let variance = self.made_by(deviation, "Sqrt")?.input.first()?;
        let (variance, epsilon) = self.by_number(variance, "Add")?;
        let square = self.mean_of(&variance)?;
        let squared = match self.by_number(&square, "Pow") {
            Some((x, 2.0)) => x,
            Some(_) => return None,
            None => {
                let [a, b] = self.made_by(&square, "Mul")?.input.as_slice() else { return None };
                (a == b).then(|| a.clone())?
            }
        };
        let [x, mean] = self.made_by(difference, "Sub")?.input.as_slice() else { return None };
        let [y, of] = self.made_by(&squared, "Sub")?.input.as_slice() else { return None };
        (x == y && self.mean_of(mean)? == *x && self.mean_of(of)? == *x).then(|| (x.clone(), Norm { scale, bias, epsilon }))
    }

    /// x, where `value` is its mean over the last dimension.
    fn mean_of(&self, value: &str) -> Option<String> {
        let node = self.made_by(value, "ReduceMean")?;
        let axes = match node.input.get(1) {
            Some(axes) => self.integers(axes)?,
            None => attribute(node, "axes")?.ints.clone(),
        };
        let kept = attribute(node, "keepdims").is_none_or(|kept| kept.i != 0);
        (axes == [-1] && kept).then(|| node.input[0].clone())
    }

    /// `softmax(scale × q kᵀ + mask) v`, of tensors of four dimensions.
    fn attention(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        if node.op_type != "MatMul" {
            return None;
        }
        let [probabilities, v] = node.input.as_slice() else { return None };
        // Some write zeros where all keys of a query are masked.
        let softmax = match self.made_by(probabilities, "Where").map(|node| node.input.as_slice()) {
            Some([is_nan, zero, softmax]) => {
                let of = self.made_by(is_nan, "IsNaN")?.input.first()?;
                (of == softmax && *self.floats(zero)? == [0.0]).then_some(softmax)?
            }
            _ => probabilities,
        };
        let softmax = self.made_by(softmax, "Softmax")?;
        if attribute(softmax, "axis").is_some_and(|axis| axis.i != -1 && axis.i != 3) {
            return None;
        }
        let (mut scores, mut mask) = (softmax.input.first()?.clone(), None);
        if let Some(add) = self.made_by(&scores, "Add") {
            let [a, b] = add.input.as_slice() else { return None };
            let (of_a, of_b) = (self.scores(a).is_some(), self.scores(b).is_some());
            let (inner, other) = if of_a {
                (a, b)
            } else if of_b {
                (b, a)
            } else {
                return None;
            };
            mask = Some(other.clone());
            scores = inner.clone();
        }
        let (q, k, scale) = self.scores(&scores)?;
        let inputs = [q, k, v.clone()].into_iter().chain(mask).collect();
        Some((Fused::Attention(Attention { scale, heads: None }), inputs))
    }

    /// `q`, `k` and the factor, where `value` is their product times that.
    fn scores(&self, value: &str) -> Option<(String, String, f32)> {
        let (mut value, mut scale) = (value.to_owned(), 1.0);
        if let Some((inner, divisor)) = self.by_number(&value, "Div") {
            (value, scale) = (inner, 1.0 / divisor);
        } else if let Some((inner, factor)) = self.by_number(&value, "Mul") {
            (value, scale) = (inner, factor);
        }
        let [q, k] = self.made_by(&value, "MatMul")?.input.as_slice() else { return None };
        let (q, q_scale) = self.unscaled(q);
        let (k, k_scale) = self.unscaled(k);
        Some((q, k, scale * q_scale * k_scale))
    }

    /// x and c, where `value` is x × c.
    fn unscaled(&self, value: &str) -> (String, f32) {
        let scaled = self.by_number(value, "Mul");
        scaled.or_else(|| self.by_number(value, "Div").map(|(x, c)| (x, 1.0 / c))).unwrap_or_else(|| (value.to_owned(), 1.0))
    }

    /// An attention whose inputs were split into heads, and whose output is put together again: it reads and writes them as they lie.
    fn heads(&mut self, at: usize) -> Found {
        let node = &self.nodes[at];
        if node.op_type != "Reshape" {
            return None;
        }
        let transposed = self.made_by(node.input.first()?, "Transpose")?;
        let (fused, attention) = self.fused_by(transposed.input.first()?)?;
        let Fused::Attention(Attention { scale, heads: None }) = *fused else { return None };
        if !permutes(transposed, &[0, 2, 1, 3]) {
            return None;
        }
        let [q, k, v, mask @ ..] = attention.input.as_slice() else { return None };
        let (q, split) = self.split(q)?;
        let (k, same) = self.split_key(k)?;
        let (v, also) = self.split(v)?;
        if split != same || split != also {
            return None;
        }
        let heads = usize::try_from(split).ok().filter(|heads| *heads > 0)?;
        let inputs = [q, k, v].into_iter().chain(mask.first().cloned()).collect();
        Some((Fused::Attention(Attention { scale, heads: Some(heads) }), inputs))
    }

    /// x and the number of heads, where `value` is x split into heads: batch × heads × sequence × width.
    fn split(&self, value: &str) -> Option<(String, i64)> {
        let transposed = self.made_by(value, "Transpose")?;
        if !permutes(transposed, &[0, 2, 1, 3]) {
            return None;
        }
        self.reshaped(transposed.input.first()?)
    }

    /// The same with the last two dimensions exchanged, directly or by way of three dimensions.
    fn split_key(&self, value: &str) -> Option<(String, i64)> {
        if let Some(transposed) = self.made_by(value, "Transpose") {
            let from = transposed.input.first()?;
            if permutes(transposed, &[0, 2, 3, 1]) {
                return self.reshaped(from);
            }
            return if permutes(transposed, &[0, 1, 3, 2]) { self.split(from) } else { None };
        }
        let inner = self.made_by(value, "Reshape")?.input.first()?;
        let transposed = self.made_by(inner, "Transpose").filter(|node| permutes(node, &[0, 2, 1]))?;
        let flat = self.made_by(transposed.input.first()?, "Reshape")?.input.first()?;
        self.split(flat)
    }

    /// x of three dimensions, and the number of heads, where `value` is x reshaped to batch × sequence × heads × width: x is the product
    /// of a matrix whose columns say how many heads there are, if the shape says the width only.
    fn reshaped(&self, value: &str) -> Option<(String, i64)> {
        let [x, shape] = self.made_by(value, "Reshape")?.input.as_slice() else { return None };
        let known = match self.integers(shape) {
            Some(known) => known.into_iter().map(Some).collect(),
            None => {
                let parts = &self.made_by(shape, "Concat")?.input;
                let part = |part: &String| self.integers(part).and_then(|part| if let [n] = *part { Some(n) } else { None });
                parts.iter().map(part).collect::<Vec<_>>()
            }
        };
        let [_, _, heads, width] = *known else { return None };
        let (Fused::Linear(linear), _) = self.fused_by(x)? else { return None };
        let all = i64::try_from(linear.weights.outputs()).ok()?;
        match (heads.filter(|heads| *heads > 0), width.filter(|width| *width > 0)) {
            (Some(heads), Some(width)) if heads * width == all => Some((x.clone(), heads)),
            (Some(heads), None) if all % heads == 0 => Some((x.clone(), heads)),
            (None, Some(width)) if all % width == 0 => Some((x.clone(), all / width)),
            _ => None,
        }
    }
}

fn attribute<'a>(node: &'a NodeProto, name: &str) -> Option<&'a AttributeProto> {
    node.attribute.iter().find(|attribute| attribute.name == name)
}

fn permutes(node: &NodeProto, order: &[i64]) -> bool {
    attribute(node, "perm").is_some_and(|perm| perm.ints == order)
}

/// Values that graphs inside a node take from outside: all that they name.
fn captured(node: &NodeProto) -> Vec<String> {
    let graphs = node.attribute.iter().flat_map(|attribute| attribute.g.iter().chain(&attribute.graphs));
    let names = graphs.flat_map(|graph| {
        let inner = graph.node.iter().flat_map(|node| node.input.iter().cloned().chain(captured(node)));
        inner.chain(graph.output.iter().map(|output| output.name.clone())).collect::<Vec<_>>()
    });
    names.collect()
}

fn copy(bytes: &Bytes) -> Bytes {
    Bytes { dims: bytes.dims.clone(), signed: bytes.signed, values: bytes.values.clone() }
}
