//! What follows a value whose size only the run knows computes what it computes for a value that has this size from the start.
//!
//! ```text
//!   x [6, 4], chosen [6] ─▶ Compress ─▶ r, n of 6 ─▶ nodes ─▶ y        the same nodes over r [n, 4] ─▶ y
//! ```
//!
//! What lies behind those that are there is made NaN first, so that nobody can read it and get away with it.

use nnc_ir::op::Cast;
use nnc_ir::{DType, Graph, Op, Tensor, eval};

use crate::build::{BOOL, F32, Onnx, onnx};
use crate::lines::lines;

/// Rows that there may be.
const ROWS: usize = 6;

/// Nodes over `r`, the rows of `x` that are chosen, along an axis of these extents; the results are what is called `y…`.
struct Tail<'t> {
    opset: i64,
    extents: &'t [usize],
    axis: usize,
    nodes: &'t str,
}

impl Tail<'_> {
    fn outputs(&self, mut model: Onnx) -> Onnx {
        let made = self
            .nodes
            .lines()
            .filter_map(|line| line.split_once('='))
            .flat_map(|(names, _)| names.split(','));
        for name in made.map(str::trim).filter(|name| name.starts_with('y')) {
            model = model.output(name);
        }
        model
    }

    fn dims(&self, rows: usize) -> Vec<usize> {
        let mut dims = self.extents.to_vec();
        dims[self.axis] = rows;
        dims
    }

    /// The nodes over rows that are counted.
    fn varying(&self) -> Graph {
        let dims: Vec<String> = self.dims(ROWS).iter().map(usize::to_string).collect();
        let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
        let rows = ROWS.to_string();
        let model = onnx(self.opset).input_of("x", F32, &dims).input_of("chosen", BOOL, &[&rows]);
        // The quotient is x where that is not 0, and NaN behind.
        let head = format!(
            "rows = Compress(x, chosen) axis={}\nsquare = Mul(rows, rows)\nr = Div(square, rows)",
            self.axis
        );
        lines(self.outputs(lines(model, &head)), self.nodes).graph()
    }

    /// The same over rows that are all there.
    fn whole(&self, rows: usize) -> Graph {
        let dims: Vec<String> = self.dims(rows).iter().map(usize::to_string).collect();
        let dims: Vec<&str> = dims.iter().map(String::as_str).collect();
        lines(self.outputs(onnx(self.opset).input_of("r", F32, &dims)), self.nodes).graph()
    }

    /// Compares both for some rows.
    fn check(&self, chosen: &[usize]) {
        let (outer, inner) =
            (self.extents[..self.axis].iter().product(), self.extents[self.axis + 1..].iter().product());
        let value = |o: usize, row: usize, i: usize| {
            // Small powers of two, so that squares, quotients and most sums are exact; none is 0.
            let n = (o * 31 + row * 17 + i * 7 + row * i * 3) % 11;
            (n as f32 - 5.5) * 0.5
        };
        let (mut all, mut some) = (Vec::new(), Vec::new());
        for o in 0..outer {
            for row in 0..ROWS {
                let elements = (0..inner).map(|i| value(o, row, i));
                all.extend(elements.clone());
                if chosen.contains(&row) {
                    some.extend(elements);
                }
            }
        }
        let x = Tensor::new(self.dims(ROWS), &all).unwrap();
        let c: Vec<bool> = (0..ROWS).map(|row| chosen.contains(&row)).collect();
        let r = Tensor::new(self.dims(chosen.len()), &some).unwrap();
        let found = eval::run(&self.varying(), &[x, Tensor::bools([ROWS], &c).unwrap()]);
        let found = found.unwrap_or_else(|e| panic!("{} rows: {e}\n{}", chosen.len(), self.nodes));
        let graph = self.whole(chosen.len());
        let expected = eval::run(&graph, &[r]).unwrap();
        for (((name, _), found), expected) in graph.outputs().iter().zip(&found).zip(&expected) {
            let context = format!(
                "{name} of {} rows: {:?}, not {:?}\n{}",
                chosen.len(),
                floats(found),
                floats(expected),
                self.nodes
            );
            assert_eq!((found.ty(), found.dtype()), (expected.ty(), expected.dtype()), "{context}");
            let (found, expected) = (floats(found), floats(expected));
            let near = |a: f64, b: f64| {
                a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-6 * b.abs().max(1.0)
            };
            assert!(found.iter().zip(&expected).all(|(&a, &b)| near(a, b)), "{context}");
        }
    }
}

fn floats(tensor: &Tensor) -> Vec<f64> {
    let wide = Op::from(Cast { to: DType::F64 }).eval(&[Some(tensor)]).unwrap().remove(0);
    wide.elems::<f64>().unwrap().into_owned()
}

const SOME: [&[usize]; 4] = [&[1, 2, 4], &[5], &[0, 1, 2, 3, 4, 5], &[]];

/// Rows of four elements, from none to all of them.
fn rows(nodes: &str) {
    for chosen in SOME {
        Tail { opset: 13, extents: &[ROWS, 4], axis: 0, nodes }.check(chosen);
    }
}

/// The same with an axis before that one and one behind, at least so many of them.
fn middle(least: usize, nodes: &str) {
    for chosen in SOME.into_iter().filter(|chosen| chosen.len() >= least) {
        Tail { opset: 13, extents: &[2, ROWS, 3], axis: 1, nodes }.check(chosen);
    }
}

/// At least so many rows of four elements.
fn at_least(least: usize, nodes: &str) {
    for chosen in SOME.into_iter().filter(|chosen| chosen.len() >= least) {
        Tail { opset: 17, extents: &[ROWS, 4], axis: 0, nodes }.check(chosen);
    }
}

#[test]
fn what_is_done_to_each_element_is_done_to_those_that_are_there() {
    rows(
        "y = Relu(r)\nlow = Less(r, 0.5)\ny2 = Not(low)\ny3 = Where(low, r, 2.0)\nfirst = Gather(r, [0]) axis=1\ny4 = Sub(r, first)\ny5 = Cast(r) to=7",
    );
    middle(
        0,
        "t = Transpose(r) perm=[2,1,0]\ny = Add(t, t)\ny2 = Concat(r, r) axis=2\ny3, y4 = Split(t, [1, 2]) axis=0",
    );
}

#[test]
fn reductions_are_over_those_that_are_there() {
    for op in
        ["ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceSumSquare"]
    {
        rows(&format!("y = {op}(r) axes=[0] keepdims=0\ny2 = {op}(r)\ny3 = {op}(r) axes=[1]"));
        middle(0, &format!("y = {op}(r) axes=[1]\ny2 = {op}(r) axes=[0,1] keepdims=0"));
    }
    rows(
        "y = ReduceSum(r, [0]) keepdims=0\ny2 = ReduceSum(r)\na = Abs(r)\ny3 = ReduceLogSum(a) axes=[0]\ny4 = ReduceLogSumExp(r) axes=[0]",
    );
    rows(
        "i = Cast(r) to=7\ny = ReduceMax(i) axes=[0]\ny2 = ReduceMin(i) axes=[0]\ny3 = ReduceMean(i) axes=[0]\nb = Cast(r) to=9",
    );
    rows("h = Cast(r) to=10\nm = ReduceMean(h) axes=[0]\ny = Cast(m) to=1");
}

#[test]
fn the_place_of_the_best_is_among_those_that_are_there() {
    for op in ["ArgMax", "ArgMin"] {
        at_least(
            1,
            &format!("y = {op}(r) axis=0\ny2 = {op}(r) axis=0 select_last_index=1\ny3 = {op}(r) axis=1"),
        );
        // All are as small as what stands for nothing.
        at_least(
            1,
            &format!(
                "f = Sub(r, r)\ng = Sub(f, 1.0)\nz = Sub(g, g)\nl = Log(z)\ny = {op}(l) axis=0 select_last_index=1"
            ),
        );
    }
}

#[test]
fn softmax_is_over_those_that_are_there() {
    rows("y = Softmax(r) axis=0\ny2 = Softmax(r) axis=1\ny3 = LogSoftmax(r) axis=0\ny4 = Hardmax(r) axis=1");
    at_least(1, "y = Hardmax(r) axis=0");
    middle(0, "y = Softmax(r) axis=1\ny2 = Softmax(r) axis=2");
    for chosen in SOME {
        Tail {
            opset: 11,
            extents: &[2, ROWS, 3],
            axis: 1,
            nodes: "y = Softmax(r) axis=1\ny2 = Softmax(r) axis=2",
        }
        .check(chosen);
    }
}

#[test]
fn products_of_matrices_are_over_those_that_are_there() {
    rows(
        "w = Gather(r, [0,1,2,3,0]) axis=1\nt = Transpose(r)\ny = MatMul(t, w)\ng = MatMul(r, t)\ny2 = MatMul(g, w)\ny3 = Gemm(r, w) transA=1\ny4 = Einsum(r, w) equation=ij,ik->jk\ny5 = Einsum(r, w) equation=ij,ik->i",
    );
    middle(
        0,
        "t = Transpose(r) perm=[0,2,1]\ny = MatMul(t, r)\ng = MatMul(r, t)\ns = Softmax(g) axis=2\ny2 = MatMul(s, r)",
    );
    at_least(
        0,
        "g = Einsum(r, r) equation=ik,jk->ij\nu = Trilu(g, 1)\ny = ReduceSum(u, [0]) keepdims=0\ne = EyeLike(g) dtype=1\nd = Mul(e, g)\ny2 = ReduceSum(d, [1]) keepdims=0\ny3 = Reshape(g, [-1])",
    );
}

#[test]
fn a_running_sum_is_over_those_that_are_there() {
    rows(
        "y = CumSum(r, 0)\ny2 = CumSum(r, 0) reverse=1\ny3 = CumSum(r, 0) reverse=1 exclusive=1\ny4 = CumSum(r, 1)",
    );
}

#[test]
fn how_many_there_are_is_a_number_like_others() {
    rows(
        "s = Shape(r)\ny = Identity(s)\ny2 = Size(r)\nn = Gather(s, 0) axis=0\ny3 = Min(n, 3)\ny4 = Mul(n, n)\ny5 = Greater(n, 2)\nf = Cast(n) to=1\ny6 = Mul(f, 0.5)\ny7 = Div(n, 2)\ny8 = Mod(n, 4)\ny9 = Cast(n) to=6",
    );
    middle(0, "s = Shape(r)\ny = ReduceProd(s)\ny2 = Slice(s, [0], [1])\ny3 = Size(r)");
}

#[test]
fn shapes_are_computed_of_how_many_there_are() {
    let n = "s = Shape(r)\nn = Gather(s, 0) axis=0\none = Gather(s, [0]) axis=0\n";
    for nodes in [
        "two = Concat(one, [2]) axis=0\ny = ConstantOfShape(two)\ny2 = Expand(2.5, two)\ny3 = Expand(r, s)",
        "y = Range(0, n, 1)\ny2 = Range(n, -2, -3)\ny3 = Range(2, n, 2)\ny4 = Gather(r, y) axis=0",
        "y = Tile(r, [2, 1])\ny2 = Tile(r, [1, 3])\nrep = Concat([1], one) axis=0\nx1 = Gather(r, [0,1]) axis=1\ny3 = Tile(y, [1, 2])",
        "wide = Unsqueeze(r, [1])\ny = Expand(wide, [1, 3, 1])\nshape = Concat([1], one, [2, -1]) axis=0",
    ] {
        rows(&format!("{n}{nodes}"));
    }
    at_least(
        1,
        &format!(
            "{n}shape = Concat([1], one, [2, -1]) axis=0\ny = Reshape(r, shape)\ntwice = Mul(one, [2])\nflat = Concat(twice, [-1]) axis=0\ny2 = Reshape(r, flat)"
        ),
    );
}

#[test]
fn elements_keep_their_order_under_other_shapes() {
    rows(
        "y = Reshape(r, [-1])\ny2 = Reshape(r, [-1, 2])\ny3 = Reshape(r, [1, -1, 4])\ny4 = Reshape(r, [0, 2, 2])\ny5 = Flatten(r)\ny6 = Unsqueeze(r, [0, 3])\ny7 = Squeeze(y6, [0, 3])",
    );
    rows(
        "t = Transpose(r)\ny = Reshape(t, [-1])\ny2 = Reshape(t, [2, -1])\ny3 = Flatten(t) axis=0\ny4 = Reshape(y, [-1, 2])",
    );
    rows("none = Slice(r, [4], [9], [1])\ny = Reshape(none, [-1])\ny2 = Reshape(none, [0, 3, -1])");
    middle(
        0,
        "y = Reshape(r, [-1])\ny2 = Reshape(r, [-1, 3])\ny3 = Reshape(r, [2, -1])\ny4 = Flatten(r) axis=2\ny5 = Reshape(r, [1, 2, -1, 3])",
    );
}

#[test]
fn values_stand_one_behind_the_other() {
    rows(
        "y = Concat(r, r) axis=0\nh = Gather(r, [1]) axis=1\ny2 = Concat(h, r) axis=1\nz = Expand(0.5, [2, 4])\ny3 = Concat(z, r) axis=0\ny4 = Concat(r, z, r) axis=0\nm = ReduceSum(r, [0])\ny5 = Concat(m, r) axis=0",
    );
    middle(
        0,
        "y = Concat(r, r) axis=1\nt = Transpose(r) perm=[1,0,2]\ny2 = Concat(t, t) axis=0\ny3 = Concat(t, t) axis=1",
    );
}

#[test]
fn slices_count_from_those_that_are_there() {
    for bounds in [
        "[0], [3]",
        "[1], [100]",
        "[-2], [100]",
        "[0], [-1]",
        "[2], [-1]",
        "[-3], [-1]",
        "[3], [2]",
        "[-100], [4]",
        "[100], [200]",
        "[9], [-100], [0], [-1]",
        "[0], [100], [0], [2]",
        "[-1], [0], [0], [-2]",
        "[1], [-1], [0], [3]",
        "[5], [0], [0], [-1]",
        "[-2], [-8], [0], [-1]",
    ] {
        rows(&format!("y = Slice(r, {bounds})"));
    }
    middle(
        0,
        "y = Slice(r, [-2], [100], [1])\ny2 = Slice(r, [-1], [-100], [1], [-1])\ny3 = Slice(r, [0, 1], [1, -1], [0, 1])",
    );
    let n = "s = Shape(r)\nn = Gather(s, [0]) axis=0\nk = Min(n, [2])\n";
    rows(&format!(
        "{n}y = Slice(r, [0], k)\nhalf = Div(n, [2])\ny2 = Slice(r, half, n)\nleft = Sub(n, [1])\ny3 = Slice(r, left, n)\nall = Range(0, 9, 1)\ny4 = Slice(all, n, [9])\nless = Sub(k, [1])\ny5 = Slice(r, less, [9])"
    ));
}

#[test]
fn parts_are_of_those_that_are_there() {
    let k = "s = Shape(r)\nn = Gather(s, [0]) axis=0\nk = Min(n, [2])\nrest = Sub(n, k)\np = Concat(k, rest) axis=0\n";
    rows(&format!(
        "{k}y, y2 = Split(r, p) axis=0\ny3 = Concat(y2, y) axis=0\ny4 = ReduceSum(y2, [0]) keepdims=0"
    ));
    rows(&format!(
        "{k}z = Expand(2.0, [2, 4])\nmore = Sub([2], k)\nq = Concat(k, more) axis=0\ny, y2 = Split(z, q) axis=0"
    ));
    for (nodes, chosen) in [
        ("y, y2 = Split(r) axis=0 num_outputs=2\ny3 = Concat(y, y2) axis=0", &SOME[..]),
        ("y, y2, y3, y4 = Split(r) axis=0 num_outputs=4", &SOME[..]),
        ("y = Split(r) axis=0 num_outputs=1", &SOME[..]),
        ("y, y2, y3 = Split(r, [1, 0, 2]) axis=0", &[SOME[0]][..]),
    ] {
        for chosen in chosen {
            Tail { opset: 18, extents: &[ROWS, 4], axis: 0, nodes }.check(chosen);
        }
    }
    for chosen in [&[0, 1, 2, 3, 4, 5][..], &[2, 4, 5], &[]] {
        let nodes = "y, y2, y3 = Split(r) axis=1\ny4 = Add(y, y3)";
        Tail { opset: 13, extents: &[2, ROWS, 3], axis: 1, nodes }.check(chosen);
    }
}

#[test]
fn parts_of_known_sizes_have_these_sizes() {
    let nodes = "y, y2 = Split(r, [1, 2]) axis=0";
    let graph = Tail { opset: 13, extents: &[ROWS, 4], axis: 0, nodes }.varying();
    for ((_, value), extent) in graph.outputs().iter().zip([1, 2]) {
        assert_eq!(graph.ty(*value).shape[..], [extent, 4]);
        assert_ne!(graph.node(value.node).op.name(), "Prefix");
    }
}

#[test]
fn padding_stands_behind_those_that_are_there() {
    rows("y = Pad(r, [1, 0, 2, 0], 7.0)\ny2 = Pad(r, [0, 1, 0, 1], 7.0)");
    at_least(1, "y = Pad(r, [-1, 0, 1, 0], 7.0)\ny2 = Pad(r, [2, 0, 1, 0]) mode=edge");
    middle(0, "y = Pad(r, [0, 1, 0, 0, 2, 1])");
    let n = "s = Shape(r)\nn = Gather(s, [0]) axis=0\nmore = Sub([8], n)\n";
    rows(&format!(
        "{n}p = Concat([0, 0], more, [0]) axis=0\ny = Pad(r, p, 0.5)\nq = Concat(more, [0, 0, 0]) axis=0\ny2 = Pad(r, q)\nlack = Sub([3], n)\nfew = Max(lack, [0])\no = Concat([0, 0], few, [0]) axis=0\ny3 = Pad(r, o)\ny4 = Slice(y3, [0], [3])"
    ));
}

#[test]
fn what_is_padded_to_a_size_has_that_size() {
    for nodes in [
        "more = Sub([8], n)\np = Concat([0, 0], more, [0]) axis=0\ny = Pad(r, p)",
        "k = Min(n, [3])\nsome = Slice(r, [0], k)\nmore = Sub([3], k)\np = Concat([0, 0], more, [0]) axis=0\ny = Pad(some, p)",
        "lack = Sub([3], n)\nmore = Max(lack, [0])\np = Concat([0, 0], more, [0]) axis=0\nlong = Pad(r, p)\ny = Slice(long, [0], [3])",
        "z = Expand(0.0, [3, 4])\nlong = Concat(r, z) axis=0\ny = Slice(long, [0], [3])",
        "lack = Sub([3], n)\nmore = Max(lack, [0])\nshape = Concat(more, [4]) axis=0\nz = ConstantOfShape(shape)\nlong = Concat(r, z) axis=0\ny = Slice(long, [0], [3])",
    ] {
        let nodes = &format!("s = Shape(r)\nn = Gather(s, [0]) axis=0\n{nodes}");
        rows(nodes);
        let graph = Tail { opset: 13, extents: &[ROWS, 4], axis: 0, nodes }.varying();
        assert_ne!(graph.node(graph.outputs()[0].1.node).op.name(), "Prefix", "{nodes}");
    }
}

#[test]
fn the_best_are_among_those_that_are_there() {
    let n = "s = Shape(r)\nn = Gather(s, [0]) axis=0\nk = Min(n, [3])\n";
    rows(&format!(
        "{n}y, y2 = TopK(r, k) axis=0\ny3, y4 = TopK(r, n) axis=0 largest=0\ny5, y6 = TopK(r, [2]) axis=1\ni = Cast(r) to=7\ny7, y8 = TopK(i, n) axis=0\ny9, y10 = TopK(i, n) axis=0 largest=0"
    ));
    at_least(3, "y, y2 = TopK(r, [3]) axis=0\ny3 = Gather(r, y2) axis=0");
    middle(3, "y, y2 = TopK(r, [2]) axis=1\ny3 = GatherElements(r, y2) axis=1");
    // NaN is larger than every number.
    rows(&format!(
        "{n}low = Less(r, 0.0)\nz = Sub(r, r)\nnan = Div(z, z)\nm = Where(low, nan, r)\ny, y2 = TopK(m, n) axis=0 largest=0\ny3, y4 = TopK(m, n) axis=0"
    ));
}

#[test]
fn indices_lead_to_those_that_are_there() {
    at_least(
        2,
        "y = Gather(r, [1, -1, -2]) axis=0\nt = Transpose(r)\ny2 = Gather(t, -1) axis=1\ni = Cast([0, -1]) to=6\ny3 = Gather(r, i) axis=0",
    );
    rows(
        "y = Gather(r, [0, 3]) axis=1\na = ArgMax(r) axis=1\ny2 = GatherElements(r, a) axis=1\ny3 = GatherND(r, a) batch_dims=1",
    );
    let found = "f = Gather(r, 0) axis=1\nlow = Less(f, 0.0)\nnz = NonZero(low)\nj = Squeeze(nz, [0])\njj = Transpose(nz)\n";
    rows(&format!(
        "{found}y = Gather(r, j) axis=0\ny2 = GatherND(r, jj)\ny3 = Compress(r, low) axis=0\ny4 = NonZero(r)\nall = Range(0, 24, 1)\ny5 = Gather(all, j) axis=0\nback = Sub(j, 24)\ny6 = Gather(all, back) axis=0"
    ));
    at_least(2, &format!("{found}neg = Sub(jj, [1])\ny = GatherND(r, neg)\ny2 = Gather(r, neg) axis=0"));
    rows("t = Transpose(r)\nhigh = Greater(t, 0.0)\nflat = Reshape(high, [-1])\ny = Compress(t, flat)");
}

#[test]
fn updates_are_those_that_are_there() {
    let found = "f = Gather(r, 0) axis=1\nlow = Less(f, 0.0)\nnz = NonZero(low)\njj = Transpose(nz)\nj = Squeeze(nz, [0])\nu = Gather(r, j) axis=0\nneg = Neg(u)\n";
    rows(&format!(
        "{found}y = ScatterND(r, jj, neg)\nz = Expand(0.0, [6, 4])\ny2 = ScatterND(z, jj, u)\nsh = Shape(u)\nwide = Expand(jj, sh)\ny3 = ScatterElements(z, wide, u) axis=0\na = ArgMax(r) axis=1\nv = Cast(a) to=1\ny4 = ScatterElements(r, a, v) axis=1"
    ));
    for chosen in SOME {
        let nodes = &format!(
            "{found}z = Expand(1.0, [6, 4])\ny = ScatterND(z, jj, u) reduction=add\ny2 = ScatterND(z, jj, u) reduction=mul"
        );
        Tail { opset: 18, extents: &[ROWS, 4], axis: 0, nodes }.check(chosen);
    }
}

#[test]
fn what_is_different_is_among_those_that_are_there() {
    rows(
        "f = Gather(r, 0) axis=1\ny, y1, y2, y3 = Unique(f)\ny4, y5, y6, y7 = Unique(f) sorted=0\ny8, y9, y10, y11 = Unique(r)",
    );
    rows(
        "d = Mul(r, 0.3)\ni = Cast(d) to=7\nf = Gather(i, 0) axis=1\ny, y1, y2, y3 = Unique(f)\ny4, y5, y6, y7 = Unique(f) sorted=0",
    );
}

#[test]
fn boxes_are_selected_of_those_that_are_there() {
    let head = "a = Abs(r)\nlow = Slice(a, [0], [2], [1])\nhigh = Add(low, 1.5)\ncorners = Concat(low, high) axis=1\nb = Unsqueeze(corners, [0])\nf = Gather(a, 0) axis=1\ns = Unsqueeze(f, [0, 1])\n";
    let iou = "iou = Expand(0.2, [1])\nleast = Expand(0.5, [1])\n";
    rows(&format!(
        "{head}{iou}y = NonMaxSuppression(b, s, [4], iou, least)\ny2 = NonMaxSuppression(b, s, [2], iou)\ny3 = NonMaxSuppression(b, s, [4])"
    ));
    rows(&format!(
        "{head}{iou}n = Shape(f)\ny = NonMaxSuppression(b, s, n, iou)\nk = Min(n, [2])\ny2 = NonMaxSuppression(b, s, k, iou)\ni = Slice(y2, [2], [3], [1])\nj = Squeeze(i, [1])\ny3 = Gather(r, j) axis=0"
    ));
}

#[test]
fn a_network_runs_on_as_many_regions_as_there_are() {
    let head = "a = Abs(r)\nlow = Slice(a, [0], [2], [1])\nhigh = Add(low, 3.0)\nrois = Concat(low, high) axis=1\nn = Gather(s, [0]) axis=0\nwhich = ConstantOfShape(n)\ni = Cast(which) to=7\nimage = Expand(0.5, [1, 2, 8, 8])\n";
    rows(&format!(
        "s = Shape(r)\n{head}p = RoiAlign(image, rois, i) output_height=2 output_width=3\ny = Identity(p)\nw = Expand(0.25, [3, 2, 1, 1])\nconv = Conv(p, w)\ny2 = Relu(conv)\ny3 = Flatten(y2)\nv = Expand(0.125, [18, 2])\nlogits = Gemm(y3, v)\ny4 = Softmax(logits) axis=1\ny5 = GlobalAveragePool(y2)\ny6 = MaxPool(y2) kernel_shape=[2,2]\ny7 = ReduceMean(y2) axes=[0,2,3]"
    ));
}

#[test]
fn the_same_question_counts_the_same() {
    rows(
        "f = Gather(r, 0) axis=1\nlow = Less(f, 0.0)\nnz = NonZero(low)\nt = Transpose(nz)\na = GatherND(r, t)\nnz2 = NonZero(low)\nt2 = Transpose(nz2)\nb = GatherND(f, t2)\nc = Unsqueeze(b, [1])\ny = Concat(a, c) axis=1\ny2 = Mul(a, c)",
    );
}

/// What a run says of nodes over some of six rows.
fn error(chosen: &[usize], nodes: &str) -> String {
    let graph = Tail { opset: 13, extents: &[ROWS, 4], axis: 0, nodes }.varying();
    let c: Vec<bool> = (0..ROWS).map(|row| chosen.contains(&row)).collect();
    let x = Tensor::new([ROWS, 4], &[1.0f32; 4 * ROWS]).unwrap();
    match eval::run(&graph, &[x, Tensor::bools([ROWS], &c).unwrap()]) {
        Ok(_) => panic!("{nodes} runs"),
        Err(error) => error.to_string(),
    }
}

#[test]
fn what_is_behind_those_that_are_there_cannot_be_asked_for() {
    for (chosen, nodes) in [
        (&[][..], "y = Gather(r, [0]) axis=0"),
        (&[1, 2], "y = Gather(r, [2]) axis=0"),
        (&[1, 2], "y = Gather(r, [-3]) axis=0"),
        (
            &[1, 2],
            "f = Gather(r, [0]) axis=1\ng = Unsqueeze(f, [2])\ni = Expand(2, [2, 1])\ny = GatherND(r, i)",
        ),
        (&[1, 2], "i = Expand(-3, [2, 4])\nt = Transpose(r)\ny = GatherElements(r, i) axis=0"),
        (&[1, 2], "i = Expand(2, [1, 1])\nu = Expand(2.0, [1, 4])\ny = ScatterND(r, i, u)"),
        (&[1, 2], "y, y2 = TopK(r, [3]) axis=0"),
    ] {
        let error = error(chosen, nodes);
        assert!(error.contains("index"), "{error}");
    }
}
