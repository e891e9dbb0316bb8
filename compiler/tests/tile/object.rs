//! Kernels in object files.

use cranelift_module::{Module, default_libcall_names};
use cranelift_object::{ObjectBuilder, ObjectModule};
use nnc::code::float::Floats;
use nnc::code::isa;
use nnc::code::tile::ir::{Lanes, TileProgram};
use nnc::code::tile::programs::dense::{Accumulators, Broadcast, Col, DenseTile, Products, Runs, Tap};
use nnc::code::tile::programs::epilogue::{Activation, KernelEpilogue};
use nnc::code::tile::{Lowered, lower};
use nnc::target::Target;
use object::{Object, ObjectSection, ObjectSymbol};

fn kernel() -> TileProgram {
    let tile = DenseTile {
        accumulators: Accumulators::Vectors,
        products: Products::Floats,
        rows: 4,
        a_pixel: 128,
        cols: vec![Col::full(Lanes::X8), Col::part(Lanes::X4, 3)],
        taps: vec![Tap { disp: 0, rows: 0..4 }],
        a_row: 0,
        kernel_rows: 1,
        k: Runs::Contiguous(32),
        c_pixel: 44,
        residual_pixel: 0,
        split: 1,
        broadcast: Broadcast::Register,
        floats: Floats::default(),
        weights_row: None,
        ahead: 0,
        epilogue: KernelEpilogue { bias: true, activation: Activation::relu6(), ..KernelEpilogue::default() },
    };
    tile.program().unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn an_object_holds_the_bytes_that_the_jit_runs_for_every_target() {
    let program = kernel();
    for name in ["x86-64-v2", "x86-64-v3", "x86-64-v4", "x86-64-v4-clif", "aarch64"] {
        let target = Target::named(name).unwrap_or_else(|e| panic!("{e}"));
        let isa = isa::for_layers(&target, true).unwrap_or_else(|e| panic!("{e}"));
        let builder = ObjectBuilder::new(isa, "kernels", default_libcall_names()).expect("an object");
        let mut module = ObjectModule::new(builder);
        let lowered = Lowered::new(&program, &target).unwrap_or_else(|e| panic!("{e}"));
        lowered.define(&mut module, "a_kernel").unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(module.declarations().get_functions().count(), 1, "{name}: names no other function");
        let bytes = module.finish().emit().expect("an object file");

        let file = object::File::parse(&*bytes).expect("ELF");
        let symbol = file.symbols().find(|s| s.name() == Ok("a_kernel")).expect("the symbol");
        let section = file.section_by_index(symbol.section_index().expect("defined")).expect("its section");
        assert_eq!(section.relocations().count(), 0, "{name}");
        assert_eq!(symbol.address() % 64, 0, "{name}");
        let code = lower(&program, &target).unwrap_or_else(|e| panic!("{e}"));
        let data = section.data().expect("bytes");
        let start = symbol.address() as usize;
        assert_eq!(&data[start..start + code.len()], code, "{name}");
    }
}

#[test]
fn lowering_twice_gives_the_same_bytes() {
    let program = kernel();
    for name in ["x86-64-v2", "x86-64-v3", "x86-64-v4", "aarch64"] {
        let target = Target::named(name).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(lower(&program, &target), lower(&program, &target), "{name}");
    }
}

#[test]
fn machine_code_of_kernels_keeps_to_caller_saved_registers_and_the_stack_as_it_is() {
    use iced_x86::{Decoder, DecoderOptions, Mnemonic, OpKind, Register};
    let program = kernel();
    for name in ["x86-64-v3", "x86-64-v4"] {
        let target = Target::named(name).unwrap_or_else(|e| panic!("{e}"));
        let code = lower(&program, &target).unwrap_or_else(|e| panic!("{e}"));
        let mut seen = Vec::new();
        for inst in Decoder::new(64, &code, DecoderOptions::NONE).iter() {
            for i in 0..inst.op_count() {
                if inst.op_kind(i) == OpKind::Register {
                    let saved = [Register::RBX, Register::RBP, Register::RSP, Register::R12];
                    assert!(!saved.contains(&inst.op_register(i)), "{name}: {inst}");
                }
            }
            seen.push(inst.mnemonic());
            if inst.mnemonic() == Mnemonic::Ret {
                break;
            }
        }
        assert_eq!(seen[seen.len() - 2..], [Mnemonic::Vzeroupper, Mnemonic::Ret], "{name}");
        assert!(!seen.contains(&Mnemonic::Vmaskmovps), "{name}");
    }
}
