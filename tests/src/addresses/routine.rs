//! The addresses of a routine: data decide them, so each window of memory counts as a whole.
//!
//! That no access leaves its window, the routine's own check and the checks in the generated code see to.

use nnc::code::routine::{Memory, MemoryUse, Routine};

use super::{Bases, Intervals, Walk, steps};

pub(super) fn walk(routine: &Routine, bases: Bases<'_>) -> Result<Walk, String> {
    let mut walk = Walk::default();
    for memory in &routine.memory {
        let (base, bytes) = (bases.arg(memory.arg)?, elements(memory));
        if memory.usage != MemoryUse::Write {
            walk.reads(base, &bytes);
        }
        if memory.usage != MemoryUse::Read {
            walk.writes(base, &bytes);
        }
    }
    Ok(walk)
}

/// The bytes of all elements of a window, smallest strides first so that neighbours join early.
fn elements(memory: &Memory) -> Intervals {
    let mut axes: Vec<(usize, i64)> =
        memory.shape.iter().copied().zip(memory.strides.iter().copied()).collect();
    axes.sort_by_key(|(_, stride)| stride.abs());
    axes.iter().fold(
        Intervals::first(memory.dtype.bytes() as i64).moved(memory.offset),
        |bytes, &(extent, stride)| match stride {
            0 => bytes,
            _ => bytes.spread(steps(extent, stride)),
        },
    )
}

#[cfg(test)]
mod tests {
    use nnc::plan::Traffic;
    use nnc_ir::DType;
    use nnc_runtime::abi::{Arg, Region};

    use super::*;

    #[test]
    fn a_window_counts_as_a_whole_for_what_its_role_says() {
        let memory = |arg, role| Memory {
            arg,
            offset: 4,
            dtype: DType::F32,
            shape: vec![3, 2, 5],
            strides: vec![16, 4, 0],
            usage: role,
        };
        let roles = [MemoryUse::Read, MemoryUse::Write, MemoryUse::Update];
        let memory = roles.into_iter().enumerate().map(|(arg, role)| memory(arg, role)).collect();
        let routine = Routine { units: Vec::new(), locals: Vec::new(), memory, body: Vec::new() };
        let args =
            [Region::Input(0), Region::Output(0), Region::Arena].map(|region| Arg { region, offset: 8 });
        let walk = walk(&routine, Bases { args: &args, constants: &[] }).unwrap();
        let bytes = Intervals::first(8).spread([0, 16, 32]).moved(12);
        let found: Vec<_> = walk.read.iter().chain(&walk.written).collect();
        let (input, output, arena) = (&args[0].region, &args[1].region, &args[2].region);
        assert_eq!(found, [(input, &bytes), (arena, &bytes), (output, &bytes), (arena, &bytes)]);
        assert_eq!(walk.traffic(), Traffic { read: routine.read_bytes(), written: routine.written_bytes() });
    }
}
