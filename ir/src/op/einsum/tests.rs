use super::*;
use crate::op::testing::{elems, f32s, refusal, tensor, ty};

fn einsum(terms: &[&str], result: &str) -> Einsum {
    Einsum { terms: terms.iter().map(|t| t.chars().collect()).collect(), result: result.chars().collect() }
}

#[test]
fn a_product_of_matrices_sums_over_the_shared_axis() {
    let (a, b) = (tensor([2, 2], &[1.0f32, 2.0, 3.0, 4.0]), tensor([2, 2], &[5.0f32, 6.0, 7.0, 8.0]));
    assert_eq!(elems::<f32>(einsum(&["ij", "jk"], "ik"), &[&a, &b]), [19.0, 22.0, 43.0, 50.0]);
    assert_eq!(elems::<f32>(einsum(&["ij", "jk"], "ki"), &[&a, &b]), [19.0, 43.0, 22.0, 50.0]);
    assert_eq!(elems::<f32>(einsum(&["ij", "jk"], ""), &[&a, &b]), [134.0]);
}

#[test]
fn a_repeated_name_walks_along_the_diagonal() {
    let a = tensor([3, 3], &(1..10).collect::<Vec<i32>>());
    assert_eq!(elems::<i32>(einsum(&["ii"], "i"), &[&a]), [1, 5, 9]);
    assert_eq!(elems::<i32>(einsum(&["ii"], ""), &[&a]), [15]);
    assert_eq!(elems::<i32>(einsum(&["ij"], "j"), &[&a]), [12, 15, 18]);
    assert_eq!(elems::<i32>(einsum(&["ij"], "ji"), &[&a]), [1, 4, 7, 2, 5, 8, 3, 6, 9]);
}

#[test]
fn an_extent_of_one_repeats_and_an_empty_sum_is_zero() {
    let (a, b) = (tensor([1, 2], &[1.0f32, 2.0]), tensor([2, 2], &[1.0f32, 2.0, 3.0, 4.0]));
    assert_eq!(elems::<f32>(einsum(&["ij", "ij"], "ij"), &[&a, &b]), [1.0, 4.0, 3.0, 8.0]);
    let empty = tensor([2, 0], &[0.0f32; 0]);
    assert_eq!(elems::<f32>(einsum(&["ij"], "i"), &[&empty]), [0.0, 0.0]);
}

#[test]
fn names_and_extents_that_do_not_fit_are_refused() {
    let two = einsum(&["ij", "jk"], "ik");
    assert_eq!(refusal(two.clone(), &[&f32s([2, 3]), &f32s([4, 5])]), "axis \"j\" has extents 3 and 4");
    assert_eq!(
        refusal(two, &[&f32s([2, 3]), &f32s([3])]),
        "operand 1 (term) has type f32[3], expected numbers of rank 2"
    );
    assert!(refusal(einsum(&["i"], "k"), &[&f32s([2])]).starts_with("axis \"k\" of the result"));
    assert!(refusal(einsum(&["i"], "ii"), &[&f32s([2])]).starts_with("axis \"i\" of the result"));
    assert!(refusal(einsum(&["i", "i"], "i"), &[&f32s([2]), &ty(DType::F64, [2])]).contains("of type f32"));
}
