//! The two widths of vectors that kernels are assembled for.

/// An extension of x86-64 with the registers and masks that kernels use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Isa {
    /// AVX2 with FMA: 16 registers of 8 lanes; masks are vectors.
    Avx2,
    /// AVX-512 (F, BW, DQ, VL): 32 registers of 16 lanes; masks are registers of their own.
    Avx512,
}

impl Isa {
    /// Both, the narrower first.
    pub const ALL: [Isa; 2] = [Isa::Avx2, Isa::Avx512];

    /// As options and tables name it.
    pub fn name(self) -> &'static str {
        match self {
            Isa::Avx2 => "avx2",
            Isa::Avx512 => "avx512",
        }
    }

    /// What a processor must have, by the names that [`super::super::target::host_features`] uses.
    pub fn features(self) -> &'static [&'static str] {
        match self {
            Isa::Avx2 => &["avx2", "fma"],
            Isa::Avx512 => &["avx2", "fma", "avx512f", "avx512bw", "avx512dq", "avx512vl"],
        }
    }

    /// f32 per vector.
    pub(crate) fn lanes(self) -> usize {
        match self {
            Isa::Avx2 => 8,
            Isa::Avx512 => 16,
        }
    }

    /// # Units
    /// Bytes of a vector.
    pub(crate) fn bytes(self) -> i32 {
        4 * self.lanes() as i32
    }

    /// Vector registers.
    pub(crate) fn registers(self) -> usize {
        match self {
            Isa::Avx2 => 16,
            Isa::Avx512 => 32,
        }
    }
}
