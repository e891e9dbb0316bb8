//! Einsum.

use nnc_ir::DType;
use nnc_ir::op::Einsum;

use crate::harness::{Random, check, layouts};

fn einsum(terms: &[&str], result: &str) -> Einsum {
    Einsum { terms: terms.iter().map(|t| t.chars().collect()).collect(), result: result.chars().collect() }
}

#[test]
fn an_einsum_is_as_evaluated() {
    let mut random = Random::new(81);
    let cases: [(&[(&str, &[usize])], &str); 9] = [
        (&[("ij", &[5, 7]), ("jk", &[7, 6])], "ik"),
        (&[("ij", &[5, 7]), ("jk", &[7, 6])], "ki"),
        (&[("bij", &[2, 5, 7]), ("bjk", &[1, 7, 9])], "bik"),
        (&[("ijk", &[3, 4, 5])], "kij"),
        (&[("iij", &[4, 4, 6])], "ji"),
        (&[("ij", &[4, 6])], ""),
        (&[("i", &[8]), ("j", &[9])], "ij"),
        (&[("ijk", &[3, 4, 5]), ("ik", &[3, 5]), ("kl", &[5, 2])], "jl"),
        (&[("ij", &[3, 0]), ("jk", &[0, 2])], "ik"),
    ];
    for (operands, result) in cases {
        let terms: Vec<&str> = operands.iter().map(|(term, _)| *term).collect();
        for (dtype, tolerance) in [(DType::F32, 1e-5), (DType::I32, 0.0), (DType::BF16, 0.01)] {
            let tensors: Vec<_> = operands.iter().map(|(_, shape)| random.tensor(dtype, shape)).collect();
            let tensors: Vec<_> = tensors.iter().collect();
            for (inputs, out) in layouts() {
                check(einsum(&terms, result), &tensors, &inputs, out, tolerance);
            }
        }
    }
}
