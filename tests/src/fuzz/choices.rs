//! Choices, the same each time: pseudo-random bytes by seed and number, read one by one.

/// SplitMix64 (Steele, Lea and Flood 2014): every seed gives a sequence of its own.
#[derive(Clone, Debug)]
pub struct Rng(u64);

impl Rng {
    /// The sequence of the case `number` of a seed.
    pub fn new(seed: u64, number: u64) -> Rng {
        let mut rng = Rng(seed ^ number.wrapping_mul(0xd1b5_4a32_d192_ed03));
        rng.bits();
        rng
    }

    /// The next 64 bits.
    pub fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`; 0 where there is none.
    pub fn below(&mut self, n: usize) -> usize {
        (self.bits() % n.max(1) as u64) as usize
    }

    /// Whether one in `n` is it.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    /// One of several.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }

    /// So many bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        std::array::from_fn(|_| (self.bits() >> 32) as u8)
    }
}

/// Choices that bytes make, one after another, and then nothing but the first of each. The first is always the simplest, so that a
/// case with smaller bytes is a simpler one.
#[derive(Clone, Debug)]
pub struct Choices<'a>(std::slice::Iter<'a, u8>);

impl<'a> Choices<'a> {
    /// The choices that these bytes make.
    pub fn new(bytes: &'a [u8]) -> Choices<'a> {
        Choices(bytes.iter())
    }

    /// A number below `n`.
    pub fn pick(&mut self, n: usize) -> usize {
        self.0.next().map_or(0, |&byte| usize::from(byte) % n.max(1))
    }

    /// Whether the last of `n` is chosen.
    pub fn one_in(&mut self, n: usize) -> bool {
        self.pick(n) + 1 == n
    }

    /// One of several.
    pub fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.pick(all.len())]
    }
}
