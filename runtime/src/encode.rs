//! A program's description as bytes.
//!
//! Little-endian, nothing padded; a list is its length and then its items, a string its length in bytes and then UTF-8:
//!
//! ```text
//!   target      string          features  u64          denormals  u8
//!   arena, scratch, constants   u64 each, in bytes
//!   functions   u32
//!   inputs      [ name string, elem u8, shape [u64] ]
//!   outputs     likewise
//!   steps       [ name string, func u32, units u32, args [ region u8, index u32, offset u64 ] ]
//!   strips      [ first u32, buffers [u64], strips [ units [ begin u32, end u32 ], origins [u64] ] ]
//!   checks      [ node string, at u64, records u32, axes [ axis u32, extent u64 ] ]
//!   repeats     [ begin u32, end u32, trips u64, going u8 (and u64), moves [ step u32, arg u32, stride i64 ] ]
//! ```
//!
//! Lengths are `u32`. The decoder trusts none of them: it reserves no more than the bytes that are left can hold, and
//! never reads past them. What the numbers mean is checked later, by [`ProgramDesc::verify`].

use crate::abi::{
    Arg, Count, CpuFeatures, Denormals, ElemType, IndexCheck, Move, Port, ProgramDesc, Region, Repeat, Step,
    Strip, Strips,
};

/// Bytes that are not the description of a program.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("byte {at} of the program's description: {problem}; compile the program again")]
pub struct DecodeError {
    /// Where, counted from the start of the description.
    pub at: usize,
    /// What is wrong there.
    pub problem: DecodeProblem,
}

/// What can be wrong with a description.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeProblem {
    /// The bytes end too soon.
    #[error("{wanted} bytes expected, {left} left")]
    Truncated {
        /// Bytes that should follow, at least.
        wanted: u64,
        /// Bytes that do.
        left: usize,
    },
    /// Bytes after the end.
    #[error("{0} bytes after the end")]
    Trailing(usize),
    /// A string that is not text.
    #[error("a name that is not UTF-8")]
    NotText,
    /// An element type that does not exist.
    #[error("element type {0}, which does not exist")]
    ElemType(u8),
    /// A region that does not exist.
    #[error("region {region} with index {index}, which does not exist")]
    Region {
        /// Its code.
        region: u8,
        /// Position of the input, output or buffer; 0 for other regions.
        index: u32,
    },
    /// An extent that this machine's addresses cannot count.
    #[error("an extent of {0}")]
    Extent(u64),
    /// A way to treat denormals that does not exist.
    #[error("treatment {0} of denormals, which does not exist")]
    Denormals(u8),
    /// A repeat whose condition is neither there nor not.
    #[error("{0} conditions of a loop")]
    Going(u8),
}

/// A list, name or table of more than `u32::MAX` items.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the program's description has a list of {0} items, more than a file can hold; split the model")]
pub struct EncodeError(pub usize);

/// Writes a description.
pub fn encode(desc: &ProgramDesc) -> Result<Vec<u8>, EncodeError> {
    let mut out = Encoder(Vec::new());
    out.string(&desc.target)?;
    out.u64(desc.features.0);
    out.u8(desc.denormals as u8);
    out.u64(desc.arena_bytes);
    out.u64(desc.scratch_bytes);
    out.u64(desc.const_bytes);
    out.u32(desc.functions);
    for ports in [&desc.inputs, &desc.outputs] {
        out.len(ports.len())?;
        for port in ports {
            out.string(&port.name)?;
            out.u8(port.elem as u8);
            out.len(port.shape.len())?;
            port.shape.iter().for_each(|&extent| out.u64(extent as u64));
            out.len(port.counts.len())?;
            for &Count { axis, at } in &port.counts {
                out.u32(axis);
                out.u64(at);
            }
        }
    }
    out.len(desc.steps.len())?;
    for step in &desc.steps {
        out.string(&step.name)?;
        out.u32(step.func);
        out.u32(step.units);
        out.len(step.args.len())?;
        for arg in &step.args {
            let (region, index) = match arg.region {
                Region::Input(port) => (0, port),
                Region::Output(port) => (1, port),
                Region::Arena => (2, 0),
                Region::Const => (3, 0),
                Region::Strip(buffer) => (4, buffer),
            };
            out.u8(region);
            out.u32(index);
            out.u64(arg.offset);
        }
    }
    out.len(desc.strips.len())?;
    for group in &desc.strips {
        out.u32(group.first);
        out.u64s(&group.buffers)?;
        out.len(group.strips.len())?;
        for strip in &group.strips {
            out.len(strip.units.len())?;
            for units in &strip.units {
                out.u32(units.start);
                out.u32(units.end);
            }
            out.u64s(&strip.origins)?;
        }
    }
    out.len(desc.index_checks.len())?;
    for check in &desc.index_checks {
        out.string(&check.node)?;
        out.u64(check.at);
        out.u32(check.records);
        out.len(check.axes.len())?;
        for &axis in &check.axes {
            out.u32(axis);
        }
    }
    out.len(desc.repeats.len())?;
    for repeat in &desc.repeats {
        out.u32(repeat.steps.start);
        out.u32(repeat.steps.end);
        out.u64(repeat.trips);
        out.u8(repeat.going.is_some().into());
        repeat.going.iter().for_each(|&at| out.u64(at));
        out.len(repeat.moves.len())?;
        for moved in &repeat.moves {
            out.u32(moved.step);
            out.u32(moved.arg);
            out.u64(moved.stride as u64);
        }
    }
    Ok(out.0)
}

/// Reads what [`encode`] wrote.
pub fn decode(bytes: &[u8]) -> Result<ProgramDesc, DecodeError> {
    let mut from = Decoder { all: bytes, left: bytes };
    let desc = ProgramDesc {
        target: from.string()?,
        features: CpuFeatures(from.u64()?),
        denormals: from.denormals()?,
        arena_bytes: from.u64()?,
        scratch_bytes: from.u64()?,
        const_bytes: from.u64()?,
        functions: from.u32()?,
        inputs: from.list(10, Decoder::port)?,
        outputs: from.list(10, Decoder::port)?,
        steps: from.list(16, Decoder::step)?,
        strips: from.list(12, Decoder::strips)?,
        index_checks: from.list(20, Decoder::index_check)?,
        repeats: from.list(21, Decoder::repeat)?,
    };
    match from.left.len() {
        0 => Ok(desc),
        more => Err(from.problem(DecodeProblem::Trailing(more))),
    }
}

struct Encoder(Vec<u8>);

impl Encoder {
    fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    fn len(&mut self, items: usize) -> Result<(), EncodeError> {
        self.u32(u32::try_from(items).map_err(|_| EncodeError(items))?);
        Ok(())
    }

    fn u64s(&mut self, values: &[u64]) -> Result<(), EncodeError> {
        self.len(values.len())?;
        values.iter().for_each(|&value| self.u64(value));
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), EncodeError> {
        self.len(text.len())?;
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

struct Decoder<'a> {
    all: &'a [u8],
    left: &'a [u8],
}

impl<'a> Decoder<'a> {
    fn problem(&self, problem: DecodeProblem) -> DecodeError {
        DecodeError { at: self.all.len() - self.left.len(), problem }
    }

    fn truncated(&self, wanted: u64) -> DecodeError {
        self.problem(DecodeProblem::Truncated { wanted, left: self.left.len() })
    }

    fn bytes(&mut self, len: usize) -> Result<&'a [u8], DecodeError> {
        let (bytes, left) = self.left.split_at_checked(len).ok_or_else(|| self.truncated(len as u64))?;
        self.left = left;
        Ok(bytes)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let (bytes, left) = self.left.split_first_chunk().ok_or_else(|| self.truncated(N as u64))?;
        self.left = left;
        Ok(*bytes)
    }

    fn u8(&mut self) -> Result<u8, DecodeError> {
        Ok(u8::from_le_bytes(self.array()?))
    }

    fn u32(&mut self) -> Result<u32, DecodeError> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    fn u64(&mut self) -> Result<u64, DecodeError> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A list whose items take at least `least` bytes each, so that what is left bounds what we reserve.
    fn list<T>(
        &mut self,
        least: u64,
        item: fn(&mut Decoder<'a>) -> Result<T, DecodeError>,
    ) -> Result<Vec<T>, DecodeError> {
        let count = self.u32()?;
        let wanted = u64::from(count) * least;
        if wanted > self.left.len() as u64 {
            return Err(self.truncated(wanted));
        }
        (0..count).map(|_| item(self)).collect()
    }

    fn string(&mut self) -> Result<String, DecodeError> {
        let len = self.u32()?;
        let text = self.bytes(len as usize)?;
        let text = std::str::from_utf8(text).map_err(|_| self.problem(DecodeProblem::NotText))?;
        Ok(text.to_owned())
    }

    fn denormals(&mut self) -> Result<Denormals, DecodeError> {
        let code = self.u8()?;
        Denormals::from_code(code).ok_or_else(|| self.problem(DecodeProblem::Denormals(code)))
    }

    fn port(&mut self) -> Result<Port, DecodeError> {
        let name = self.string()?;
        let elem = self.u8()?;
        let elem = ElemType::from_code(elem).ok_or_else(|| self.problem(DecodeProblem::ElemType(elem)))?;
        let shape = self.list(8, |from| {
            let extent = from.u64()?;
            usize::try_from(extent).map_err(|_| from.problem(DecodeProblem::Extent(extent)))
        })?;
        let counts = self.list(12, |from| Ok(Count { axis: from.u32()?, at: from.u64()? }))?;
        Ok(Port { name, elem, shape, counts })
    }

    fn step(&mut self) -> Result<Step, DecodeError> {
        Ok(Step {
            name: self.string()?,
            func: self.u32()?,
            units: self.u32()?,
            args: self.list(13, Decoder::arg)?,
        })
    }

    fn arg(&mut self) -> Result<Arg, DecodeError> {
        let (region, index) = (self.u8()?, self.u32()?);
        let region = match (region, index) {
            (0, port) => Region::Input(port),
            (1, port) => Region::Output(port),
            (2, 0) => Region::Arena,
            (3, 0) => Region::Const,
            (4, buffer) => Region::Strip(buffer),
            (region, index) => return Err(self.problem(DecodeProblem::Region { region, index })),
        };
        Ok(Arg { region, offset: self.u64()? })
    }

    fn strips(&mut self) -> Result<Strips, DecodeError> {
        Ok(Strips {
            first: self.u32()?,
            buffers: self.list(8, Decoder::u64)?,
            strips: self.list(8, Decoder::strip)?,
        })
    }

    fn index_check(&mut self) -> Result<IndexCheck, DecodeError> {
        Ok(IndexCheck {
            node: self.string()?,
            at: self.u64()?,
            records: self.u32()?,
            axes: self.list(4, Decoder::u32)?,
        })
    }

    fn repeat(&mut self) -> Result<Repeat, DecodeError> {
        Ok(Repeat {
            steps: self.u32()?..self.u32()?,
            trips: self.u64()?,
            going: match self.u8()? {
                0 => None,
                1 => Some(self.u64()?),
                other => return Err(self.problem(DecodeProblem::Going(other))),
            },
            moves: self.list(16, |from| {
                Ok(Move { step: from.u32()?, arg: from.u32()?, stride: from.u64()? as i64 })
            })?,
        })
    }

    fn strip(&mut self) -> Result<Strip, DecodeError> {
        Ok(Strip {
            units: self.list(8, |from| Ok(from.u32()?..from.u32()?))?,
            origins: self.list(8, Decoder::u64)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> ProgramDesc {
        let port = |name: &str, elem, shape: &[usize]| Port {
            name: name.to_owned(),
            elem,
            shape: shape.to_vec(),
            counts: Vec::new(),
        };
        let arg = |region, offset| Arg { region, offset };
        ProgramDesc {
            target: "x86-64-v3".to_owned(),
            features: CpuFeatures::AVX2.with(CpuFeatures::FMA),
            denormals: Denormals::Keep,
            inputs: vec![port("data", ElemType::F32, &[1, 3, 224, 224]), port("größe", ElemType::I64, &[])],
            outputs: vec![
                port("prob", ElemType::U8, &[0]),
                Port {
                    counts: vec![Count { axis: 0, at: 64 }, Count { axis: 1, at: 8 }],
                    ..port("boxes", ElemType::I64, &[100, 3])
                },
            ],
            arena_bytes: 1 << 33,
            scratch_bytes: 64,
            const_bytes: 4096,
            functions: 2,
            steps: vec![
                Step {
                    name: "a".to_owned(),
                    func: 1,
                    units: 7,
                    args: vec![
                        arg(Region::Input(1), 0),
                        arg(Region::Const, 4096),
                        arg(Region::Arena, 1 << 32),
                        arg(Region::Output(0), 0),
                    ],
                },
                Step {
                    name: String::new(),
                    func: 0,
                    units: u32::MAX,
                    args: vec![arg(Region::Strip(1), 4096)],
                },
            ],
            strips: vec![Strips {
                first: 0,
                buffers: vec![64, 1 << 40],
                strips: vec![Strip { units: vec![0..3, 2..u32::MAX], origins: vec![0, 1 << 33] }],
            }],
            index_checks: vec![IndexCheck {
                node: "gather".to_owned(),
                at: 128,
                records: 3,
                axes: vec![0, 2],
            }],
            repeats: vec![
                Repeat {
                    steps: 1..2,
                    trips: 1 << 40,
                    going: Some(9),
                    moves: vec![Move { step: 1, arg: 3, stride: -8 }],
                },
                Repeat { steps: 2..3, trips: 1, going: None, moves: vec![] },
            ],
        }
    }

    #[test]
    fn a_description_survives_the_way_to_bytes_and_back() {
        let bytes = encode(&sample()).unwrap();
        assert_eq!(decode(&bytes).unwrap(), sample());
    }

    #[test]
    fn every_element_type_has_a_code() {
        for code in 0..=u8::MAX {
            if let Some(elem) = ElemType::from_code(code) {
                assert_eq!(elem as u8, code);
            }
        }
        assert_eq!((0..=u8::MAX).filter_map(ElemType::from_code).count(), 13);
    }

    #[test]
    fn every_prefix_is_refused_as_truncated() {
        let bytes = encode(&sample()).unwrap();
        for len in (0..bytes.len()).step_by(if cfg!(miri) { 13 } else { 1 }) {
            let error = decode(&bytes[..len]).unwrap_err();
            assert!(matches!(error.problem, DecodeProblem::Truncated { .. }), "{len}: {error}");
            assert!(error.at <= len);
        }
    }

    #[test]
    fn bytes_after_the_end_are_refused() {
        let mut bytes = encode(&sample()).unwrap();
        bytes.extend([0; 3]);
        let error = decode(&bytes).unwrap_err();
        assert_eq!(error.problem, DecodeProblem::Trailing(3));
        assert_eq!(error.at, bytes.len() - 3);
    }

    #[test]
    fn a_huge_count_is_refused_before_anything_is_reserved() {
        // Empty target, numbers, then four thousand million inputs.
        let mut bytes = vec![0; 4 + 4 * 8 + 1 + 4];
        bytes.extend(u32::MAX.to_le_bytes());
        bytes.extend([0; 100]);
        let error = decode(&bytes).unwrap_err();
        assert_eq!(
            error.to_string(),
            "byte 45 of the program's description: 42949672950 bytes expected, 100 left; compile the program again"
        );
    }

    #[test]
    fn any_byte_changed_gives_a_description_or_an_error() {
        let bytes = encode(&sample()).unwrap();
        let mut refused = 0;
        for at in (0..bytes.len()).step_by(if cfg!(miri) { 13 } else { 1 }) {
            for flip in [0x01, 0x80, 0xff] {
                let mut bytes = bytes.clone();
                bytes[at] ^= flip;
                match decode(&bytes) {
                    Ok(desc) => assert_ne!(desc, sample()),
                    Err(_) => refused += 1,
                }
            }
        }
        assert!(refused > 0);
    }
}
