//! Outputs of which a run says how much of them is there.

mod common;

use nnc_runtime::abi::{Count, ProgramDesc};

fn refused(change: impl FnOnce(&mut ProgramDesc)) -> String {
    let mut desc = common::desc();
    change(&mut desc);
    desc.verify().map_or_else(|error| error.to_string(), |()| "fine".to_owned())
}

#[test]
fn a_count_lies_in_the_arena_and_is_that_of_an_axis_of_an_output() {
    let last = common::desc().arena_bytes - 8;
    let output = |axis, at| refused(move |desc| desc.outputs[0].counts = vec![Count { axis, at }]);
    assert_eq!(output(0, 0), "fine");
    assert_eq!(output(1, last), "fine");
    for (axis, at) in [(3, 0), (u32::MAX, 0), (0, last + 1), (0, u64::MAX)] {
        assert!(output(axis, at).contains("where it cannot be"), "{axis} {at}");
    }
    let both = |axes: [u32; 2]| {
        refused(move |desc| desc.outputs[0].counts = axes.map(|axis| Count { axis, at: 8 }).to_vec())
    };
    assert_eq!(both([0, 1]), "fine");
    for axes in [[0, 0], [1, 0]] {
        assert!(both(axes).contains("where it cannot be"), "{axes:?}");
    }
    let input = refused(|desc| desc.inputs[0].counts = vec![Count { axis: 0, at: 0 }]);
    assert!(input.contains("where it cannot be"), "{input}");
}
