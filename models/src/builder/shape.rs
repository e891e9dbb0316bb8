//! Words for values of any shape: what attention, the heads of detectors and recurrent networks do between their layers.

use super::{Net, Tensor, i64_vector, node_name};
use crate::proto;

impl Net {
    pub(crate) fn reshape(&mut self, path: &str, x: &Tensor, dims: &[usize]) -> Tensor {
        assert_eq!(x.dims.iter().product::<usize>(), dims.iter().product(), "{path}");
        let shape: Vec<i64> = dims.iter().map(|&dim| dim as i64).collect();
        let shape = self.constant(path, "shape", i64_vector(&shape));
        let name = self.push(path, "Reshape", vec![x.name.clone(), shape], vec![]);
        Tensor { name, dims: dims.into() }
    }

    pub(crate) fn transpose(&mut self, path: &str, x: &Tensor, perm: &[usize]) -> Tensor {
        let axes: Vec<i64> = perm.iter().map(|&axis| axis as i64).collect();
        let name = self.push(path, "Transpose", vec![x.name.clone()], vec![proto::ints("perm", &axes)]);
        Tensor { name, dims: perm.iter().map(|&axis| x.dims[axis]).collect() }
    }

    pub(crate) fn softmax(&mut self, path: &str, x: &Tensor, axis: i64) -> Tensor {
        let name = self.push(path, "Softmax", vec![x.name.clone()], vec![proto::int("axis", axis)]);
        Tensor { name, dims: x.dims.clone() }
    }

    /// A sigmoid of what has no moments.
    pub(crate) fn sigmoid_of(&mut self, path: &str, x: &Tensor) -> Tensor {
        let name = self.push(path, "Sigmoid", vec![x.name.clone()], vec![]);
        Tensor { name, dims: x.dims.clone() }
    }

    /// `a · b` over the last two axes; those before are the same.
    pub(crate) fn matmul(&mut self, path: &str, a: &Tensor, b: &Tensor) -> Tensor {
        let rank = a.dims.len();
        let (rows, inner, columns) = (a.dims[rank - 2], a.dims[rank - 1], b.dims[rank - 1]);
        assert_eq!((&a.dims[..rank - 2], inner), (&b.dims[..rank - 2], b.dims[rank - 2]), "{path}");
        let name = self.push(path, "MatMul", vec![a.name.clone(), b.name.clone()], vec![]);
        let mut dims = a.dims.clone();
        (dims[rank - 2], dims[rank - 1]) = (rows, columns);
        self.cost.macc += (dims.iter().product::<usize>() * inner) as u64;
        Tensor { name, dims }
    }

    /// `Add`, `Sub`, `Mul` of `a` and a `b` that is no larger.
    pub(crate) fn binary(&mut self, path: &str, op: &str, a: &Tensor, b: &Tensor) -> Tensor {
        let name = self.push(path, op, vec![a.name.clone(), b.name.clone()], vec![]);
        Tensor { name, dims: a.dims.clone() }
    }

    /// The same with a scalar.
    pub(crate) fn scalar(&mut self, path: &str, op: &str, x: &Tensor, scalar: f32) -> Tensor {
        let name = self.with_scalar(path, op, &x.name, scalar);
        Tensor { name, dims: x.dims.clone() }
    }

    /// What the network knows without seeing its input.
    pub(crate) fn table(&mut self, path: &str, what: &str, dims: &[usize], values: &[f32]) -> Tensor {
        let name = self.constant(path, what, proto::f32_tensor("", dims, values));
        Tensor { name, dims: dims.into() }
    }

    /// Joins along an axis.
    pub(crate) fn join(&mut self, path: &str, parts: &[Tensor], axis: usize) -> Tensor {
        let names = parts.iter().map(|part| part.name.clone()).collect();
        let name = self.push(path, "Concat", names, vec![proto::int("axis", axis as i64)]);
        let mut dims = parts[0].dims.clone();
        dims[axis] = parts.iter().map(|part| part.dims[axis]).sum();
        Tensor { name, dims }
    }

    /// Splits along an axis into parts of these sizes.
    pub(crate) fn split<const N: usize>(
        &mut self,
        path: &str,
        x: &Tensor,
        axis: usize,
        sizes: [usize; N],
    ) -> [Tensor; N] {
        assert_eq!(sizes.iter().sum::<usize>(), x.dims[axis], "{path}");
        let constant = self.constant(path, "split", i64_vector(&sizes.map(|size| size as i64)));
        let node = node_name(path, "Split");
        let names: Vec<String> = (0..N).map(|part| format!("{node}_output_{part}")).collect();
        let mut proto_node = proto::node("Split", &node, vec![x.name.clone(), constant], names.clone());
        proto_node.attribute = vec![proto::int("axis", axis as i64)];
        self.nodes.push(proto_node);
        std::array::from_fn(|part| {
            let mut dims = x.dims.clone();
            dims[axis] = sizes[part];
            Tensor { name: names[part].clone(), dims }
        })
    }

    /// Leaves out an axis of one element.
    pub(crate) fn squeeze(&mut self, path: &str, x: &Tensor, axis: usize) -> Tensor {
        assert_eq!(x.dims[axis], 1, "{path}");
        let axes = self.constant(path, "axes", i64_vector(&[axis as i64]));
        let name = self.push(path, "Squeeze", vec![x.name.clone(), axes], vec![]);
        Tensor { name, dims: without(&x.dims, axis) }
    }

    /// The part at an index of an axis, which is left out: a `Gather`.
    pub(crate) fn pick(&mut self, path: &str, x: &Tensor, axis: usize, index: usize) -> Tensor {
        let index = self.constant(path, "index", proto::i64_tensor("", &[], &[index as i64]));
        let along = vec![proto::int("axis", axis as i64)];
        let name = self.push(path, "Gather", vec![x.name.clone(), index], along);
        Tensor { name, dims: without(&x.dims, axis) }
    }
}

fn without(dims: &[usize], axis: usize) -> Vec<usize> {
    let mut dims = dims.to_vec();
    dims.remove(axis);
    dims
}
