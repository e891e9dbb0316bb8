//! What the tests of tile programs share: targets that run here, buffers, random numbers, one call on every lowering.

use nnc::code::tile::interp::{self, KernelArg};
use nnc::code::tile::ir::{ParamKind, ParamRole, TileProgram};
use nnc::code::tile::run::Kernel;
use nnc::target::Target;

/// Every lowering that this machine can run. Says which are left out.
pub fn targets() -> Vec<Target> {
    let names = [
        "x86-64-v2",
        "x86-64-v3",
        "x86-64-v4",
        "x86-64-v3-clif",
        "x86-64-v3+vnni",
        "x86-64-v4+vnni",
        "x86-64-v4+bf16",
        "znver4",
        "aarch64",
    ];
    let all = names.map(|name| Target::named(name).expect("a known name"));
    let (here, elsewhere): (Vec<Target>, Vec<Target>) = all.into_iter().partition(Target::runs_here);
    for target in elsewhere {
        eprintln!("left out: this machine cannot run {}", target.name);
    }
    assert!(!here.is_empty(), "some lowering runs on this machine");
    here
}

/// Reproducible numbers.
pub struct Random(u64);

impl Random {
    pub fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// Below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    /// In -0.5..0.5.
    pub fn float(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    }

    pub fn floats(&mut self, n: usize) -> Vec<f32> {
        (0..n).map(|_| self.float()).collect()
    }
}

pub fn bytes(floats: &[f32]) -> Vec<u8> {
    floats.iter().flat_map(|x| x.to_le_bytes()).collect()
}

pub fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks().0.iter().map(|four| f32::from_le_bytes(*four)).collect()
}

/// A way to run programs: the interpreter, or a lowering.
pub enum Engine {
    Interpreter { fused: bool },
    Native(Target),
}

impl Engine {
    /// The interpreter with fused multiply-add, then every lowering that runs here.
    pub fn all() -> Vec<Engine> {
        let native = targets().into_iter().map(Engine::Native);
        std::iter::once(Engine::Interpreter { fused: true }).chain(native).collect()
    }

    pub fn name(&self) -> String {
        match self {
            Engine::Interpreter { .. } => "interpreter".into(),
            Engine::Native(target) => target.name.clone(),
        }
    }

    pub fn fused(&self) -> bool {
        match self {
            Engine::Interpreter { fused } => *fused,
            Engine::Native(target) => target.fma,
        }
    }

    /// The program, ready to be called many times; `None` if it needs more registers than there are.
    pub fn prepare(&self, program: &TileProgram) -> Option<Ready> {
        match self {
            Engine::Interpreter { fused } => {
                nnc::code::tile::verify::verify(program).unwrap_or_else(|e| panic!("{e}"));
                Some(Ready::Interpreter(program.clone(), *fused))
            }
            Engine::Native(target) => {
                nnc::code::tile::fits(program, target).ok()?;
                let kernel = Kernel::new(program, target).unwrap_or_else(|e| panic!("{}: {e}", target.name));
                Some(Ready::Native(Box::new(kernel)))
            }
        }
    }
}

pub enum Ready {
    Interpreter(TileProgram, bool),
    Native(Box<Kernel>),
}

impl Ready {
    pub fn call(&self, args: &mut [KernelArg<'_>]) {
        let done = match self {
            Ready::Interpreter(program, fused) => interp::run(program, args, *fused),
            Ready::Native(kernel) => kernel.call(args),
        };
        done.unwrap_or_else(|e| panic!("{e}"));
    }
}

/// A value for each role that a kernel may ask for. Buffers come with the byte that the pointer points to.
#[derive(Default)]
pub struct Given<'a> {
    pub buffers: Vec<(ParamRole, &'a mut Vec<u8>, usize)>,
    pub counts: Vec<(ParamRole, u64)>,
}

impl<'a> Given<'a> {
    /// The arguments in the order of the program's parameters.
    pub fn args(&'a mut self, program: &TileProgram) -> Vec<KernelArg<'a>> {
        let mut slots: Vec<Option<KernelArg<'a>>> = program.params.iter().map(|_| None).collect();
        for (role, n) in &self.counts {
            if let Some((i, _)) = program.param(*role) {
                slots[i] = Some(KernelArg::Count(*n));
            }
        }
        for (role, bytes, origin) in self.buffers.iter_mut() {
            if let Some((i, param)) = program.param(*role) {
                assert!(!matches!(param.kind, ParamKind::Count { .. }));
                slots[i] = Some(KernelArg::Memory { bytes: bytes.as_mut_slice(), origin: *origin });
            }
        }
        let missing = |i: usize| panic!("nothing given for {:?}", program.params[i].role);
        slots.into_iter().enumerate().map(|(i, s)| s.unwrap_or_else(|| missing(i))).collect()
    }
}

/// Whether two results are the same value: equal bits, or both NaN.
pub fn same(a: f32, b: f32) -> bool {
    a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan())
}
