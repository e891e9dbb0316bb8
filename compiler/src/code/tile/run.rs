//! Runs one kernel on the machine at hand, with the same arguments as the interpreter, all checked: for tests, and for
//! tuning, where a kernel is tried on its own.

use cranelift_jit::{JITBuilder, JITModule};
use cranelift_module::{FuncId, default_libcall_names};

use super::error::TileError;
use super::interp::KernelArg;
use super::ir::{ByteRange, ParamKind, TileProgram};
use super::verify::footprints;
use crate::code::isa;
use crate::target::Target;

/// A compiled kernel that owns its code.
pub struct Kernel {
    program: TileProgram,
    /// `None` only while dropping.
    module: Option<JITModule>,
    id: FuncId,
}

impl Kernel {
    /// Compiles a program. The target must be one that runs here.
    pub fn new(program: &TileProgram, target: &Target) -> Result<Kernel, TileError> {
        let refused = |message: String| TileError::Define { program: program.name.clone(), message };
        if !target.runs_here() {
            return Err(refused(format!("target \"{}\" does not run on this machine", target.name)));
        }
        let isa = isa::for_layers(target, false).map_err(|e| refused(e.to_string()))?;
        let mut module = JITModule::new(JITBuilder::with_isa(isa, default_libcall_names()));
        let id = super::Lowered::new(program, target)?.define(&mut module, "kernel")?;
        module.finalize_definitions().map_err(|e| refused(e.to_string()))?;
        Ok(Kernel { program: program.clone(), module: Some(module), id })
    }

    /// The address of the code, valid as long as the kernel lives.
    pub fn address(&self) -> *const u8 {
        self.module.as_ref().map_or(std::ptr::null(), |m| m.get_finalized_function(self.id))
    }

    /// Calls the kernel, after checking that the buffers hold all that it may touch.
    pub fn call(&self, args: &mut [KernelArg<'_>]) -> Result<(), TileError> {
        let raw = self.check(args)?;
        let code = self.address();
        if code.is_null() {
            return Err(self.refuse("the code is gone"));
        }
        // SAFETY: `code` is the entry of a verified program, whose parameters are as many 64-bit integers in the
        // platform's C convention as `check` returned. A verified program touches no byte beyond its footprints, and
        // `check` has found them inside the buffers, which are borrowed for the duration of the call.
        unsafe { call(code, &raw) }.ok_or_else(|| self.refuse("has more parameters than can be passed"))
    }

    fn refuse(&self, message: impl Into<String>) -> TileError {
        TileError::Interpret { program: self.program.name.clone(), message: message.into() }
    }

    fn check(&self, args: &mut [KernelArg<'_>]) -> Result<Vec<i64>, TileError> {
        if args.len() != self.program.params.len() {
            return Err(self.refuse(format!("{} arguments for {}", args.len(), self.program.params.len())));
        }
        // What this call may touch depends on its counts.
        let mut called = self.program.clone();
        for (arg, param) in args.iter().zip(&mut called.params) {
            if let (KernelArg::Count(n), ParamKind::Count { max }) = (arg, &param.kind)
                && *n <= u64::from(*max)
            {
                param.kind = ParamKind::Count { max: *n as u32 };
            }
        }
        let footprints = footprints(&called)?;
        let mut raw = Vec::new();
        for ((arg, param), touched) in args.iter_mut().zip(&self.program.params).zip(&footprints) {
            raw.push(match (arg, &param.kind) {
                (KernelArg::Count(n), ParamKind::Count { max }) if *n <= u64::from(*max) => *n as i64,
                (
                    KernelArg::Memory { bytes, origin },
                    ParamKind::Read { .. } | ParamKind::Write { .. } | ParamKind::Table { .. },
                ) => {
                    let here = ByteRange::new(-(*origin as i64), bytes.len() as i64 - *origin as i64);
                    if !here.contains(*touched) {
                        return Err(self.refuse(format!("the buffer of {:?} is too small", param.role)));
                    }
                    if let ParamKind::Table { classes } = &param.kind {
                        let ranges = classes.iter().flat_map(|(n, range)| (0..*n).map(move |_| range));
                        let entries = bytes[*origin..].as_chunks().0.iter();
                        let mut pairs = ranges.zip(entries.map(|four| i64::from(i32::from_le_bytes(*four))));
                        if pairs.any(|(range, v)| v < range.lo || v >= range.hi) {
                            return Err(self.refuse("a table entry is out of its stated range"));
                        }
                    }
                    bytes.as_mut_ptr().wrapping_add(*origin) as i64
                }
                _ => return Err(self.refuse(format!("an argument of the wrong kind for {:?}", param.role))),
            });
        }
        Ok(raw)
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        if let Some(module) = self.module.take() {
            // SAFETY: the code is reached through this kernel only, which is going away.
            unsafe { module.free_memory() };
        }
    }
}

/// Calls code with up to ten integers; `None` if there are more.
///
/// # Safety
/// `code` must be a function of `args.len()` 64-bit integers in the C convention, and safe to call with these.
unsafe fn call(code: *const u8, args: &[i64]) -> Option<()> {
    macro_rules! arity {
        ($($arg:ident),*) => {{
            // SAFETY: the caller states that `code` is such a function.
            let f: extern "C" fn($(arity!(@type $arg)),*) = unsafe { std::mem::transmute(code) };
            f($($arg),*);
        }};
        (@type $arg:ident) => { i64 };
    }
    match *args {
        [] => arity!(),
        [a] => arity!(a),
        [a, b] => arity!(a, b),
        [a, b, c] => arity!(a, b, c),
        [a, b, c, d] => arity!(a, b, c, d),
        [a, b, c, d, e] => arity!(a, b, c, d, e),
        [a, b, c, d, e, f] => arity!(a, b, c, d, e, f),
        [a, b, c, d, e, f, g] => arity!(a, b, c, d, e, f, g),
        [a, b, c, d, e, f, g, h] => arity!(a, b, c, d, e, f, g, h),
        [a, b, c, d, e, f, g, h, i] => arity!(a, b, c, d, e, f, g, h, i),
        [a, b, c, d, e, f, g, h, i, j] => arity!(a, b, c, d, e, f, g, h, i, j),
        _ => return None,
    }
    Some(())
}
