//! Which machine instruction stands for an operation, on vectors of 256 and of 512 bits.

use super::ir::{Binary, Compare, Condition, Logic, Op, Shift, Swap, Unary};
use super::isa::Isa;
use iced_x86::Code;

/// For AVX2 and for AVX-512.
pub(super) type Pair = (Code, Code);

pub(super) const LOAD: Pair = (Code::VEX_Vmovups_ymm_ymmm256, Code::EVEX_Vmovups_zmm_k1z_zmmm512);
pub(super) const STORE: Pair = (Code::VEX_Vmovups_ymmm256_ymm, Code::EVEX_Vmovups_zmmm512_k1z_zmm);
pub(super) const MOVE: Pair = (Code::VEX_Vmovaps_ymm_ymmm256, Code::EVEX_Vmovaps_zmm_k1z_zmmm512);
pub(super) const BROADCAST: Pair = (Code::VEX_Vbroadcastss_ymm_m32, Code::EVEX_Vbroadcastss_zmm_k1z_xmmm32);
pub(super) const LOAD_BYTES: Pair = (Code::VEX_Vpmovzxbd_ymm_xmmm64, Code::EVEX_Vpmovzxbd_zmm_k1z_xmmm128);
pub(super) const LOAD_QUARTER: Pair = (Code::VEX_Vmovups_xmm_xmmm128, Code::EVEX_Vmovups_xmm_k1z_xmmm128);
pub(super) const INSERT: Pair =
    (Code::VEX_Vinsertf128_ymm_ymm_xmmm128_imm8, Code::EVEX_Vinsertf32x4_zmm_k1z_zmm_xmmm128_imm8);
pub(super) const STORE_FIRST: Pair = (Code::VEX_Vmovss_m32_xmm, Code::EVEX_Vmovss_m32_k1_xmm);

/// `to = to * a + last`, `to = to + a * last`, and `to = to * last + a`.
pub(super) const FMA: [Pair; 3] = [
    (Code::VEX_Vfmadd213ps_ymm_ymm_ymmm256, Code::EVEX_Vfmadd213ps_zmm_k1z_zmm_zmmm512b32_er),
    (Code::VEX_Vfmadd231ps_ymm_ymm_ymmm256, Code::EVEX_Vfmadd231ps_zmm_k1z_zmm_zmmm512b32_er),
    (Code::VEX_Vfmadd132ps_ymm_ymm_ymmm256, Code::EVEX_Vfmadd132ps_zmm_k1z_zmm_zmmm512b32_er),
];

pub(super) fn jump(condition: Condition) -> Code {
    match condition {
        Condition::Less => Code::Jl_rel32_64,
        Condition::GreaterEqual => Code::Jge_rel32_64,
        Condition::LessEqual => Code::Jle_rel32_64,
    }
}

pub(super) fn binary(op: Binary) -> Pair {
    match op {
        Binary::Add => (Code::VEX_Vaddps_ymm_ymm_ymmm256, Code::EVEX_Vaddps_zmm_k1z_zmm_zmmm512b32_er),
        Binary::Sub => (Code::VEX_Vsubps_ymm_ymm_ymmm256, Code::EVEX_Vsubps_zmm_k1z_zmm_zmmm512b32_er),
        Binary::Mul => (Code::VEX_Vmulps_ymm_ymm_ymmm256, Code::EVEX_Vmulps_zmm_k1z_zmm_zmmm512b32_er),
        Binary::Div => (Code::VEX_Vdivps_ymm_ymm_ymmm256, Code::EVEX_Vdivps_zmm_k1z_zmm_zmmm512b32_er),
        Binary::Min => (Code::VEX_Vminps_ymm_ymm_ymmm256, Code::EVEX_Vminps_zmm_k1z_zmm_zmmm512b32_sae),
        Binary::Max => (Code::VEX_Vmaxps_ymm_ymm_ymmm256, Code::EVEX_Vmaxps_zmm_k1z_zmm_zmmm512b32_sae),
        Binary::And => (Code::VEX_Vandps_ymm_ymm_ymmm256, Code::EVEX_Vpandd_zmm_k1z_zmm_zmmm512b32),
        Binary::Or => (Code::VEX_Vorps_ymm_ymm_ymmm256, Code::EVEX_Vpord_zmm_k1z_zmm_zmmm512b32),
        Binary::Xor => (Code::VEX_Vxorps_ymm_ymm_ymmm256, Code::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32),
        Binary::AddInt => (Code::VEX_Vpaddd_ymm_ymm_ymmm256, Code::EVEX_Vpaddd_zmm_k1z_zmm_zmmm512b32),
        Binary::SubInt => (Code::VEX_Vpsubd_ymm_ymm_ymmm256, Code::EVEX_Vpsubd_zmm_k1z_zmm_zmmm512b32),
        Binary::UnpackLow32 => {
            (Code::VEX_Vunpcklps_ymm_ymm_ymmm256, Code::EVEX_Vunpcklps_zmm_k1z_zmm_zmmm512b32)
        }
        Binary::UnpackHigh32 => {
            (Code::VEX_Vunpckhps_ymm_ymm_ymmm256, Code::EVEX_Vunpckhps_zmm_k1z_zmm_zmmm512b32)
        }
        Binary::UnpackLow64 => {
            (Code::VEX_Vunpcklpd_ymm_ymm_ymmm256, Code::EVEX_Vunpcklpd_zmm_k1z_zmm_zmmm512b64)
        }
        Binary::UnpackHigh64 => {
            (Code::VEX_Vunpckhpd_ymm_ymm_ymmm256, Code::EVEX_Vunpckhpd_zmm_k1z_zmm_zmmm512b64)
        }
        Binary::PackWords => {
            (Code::VEX_Vpackssdw_ymm_ymm_ymmm256, Code::EVEX_Vpackssdw_zmm_k1z_zmm_zmmm512b32)
        }
        Binary::PackBytes => (Code::VEX_Vpacksswb_ymm_ymm_ymmm256, Code::EVEX_Vpacksswb_zmm_k1z_zmm_zmmm512),
    }
}

/// The instruction, and the rounding mode that it is told.
pub(super) fn unary(op: Unary) -> (Pair, Option<u32>) {
    let round = (Code::VEX_Vroundps_ymm_ymmm256_imm8, Code::EVEX_Vrndscaleps_zmm_k1z_zmmm512b32_imm8_sae);
    match op {
        Unary::Sqrt => ((Code::VEX_Vsqrtps_ymm_ymmm256, Code::EVEX_Vsqrtps_zmm_k1z_zmmm512b32_er), None),
        Unary::Nearest => (round, Some(8)),
        Unary::Floor => (round, Some(9)),
        Unary::Ceil => (round, Some(10)),
        Unary::Trunc => (round, Some(11)),
    }
}

pub(super) fn shift(shift: Shift) -> Pair {
    match shift {
        Shift::Left => (Code::VEX_Vpslld_ymm_ymm_imm8, Code::EVEX_Vpslld_zmm_k1z_zmmm512b32_imm8),
        Shift::Right => (Code::VEX_Vpsrld_ymm_ymm_imm8, Code::EVEX_Vpsrld_zmm_k1z_zmmm512b32_imm8),
    }
}

/// The instruction, whether it takes its operand twice, and the order of lanes.
pub(super) fn swap(swap: Swap, isa: Isa) -> Option<(Code, bool, u32)> {
    let within = match isa {
        Isa::Avx2 => Code::VEX_Vpermilps_ymm_ymmm256_imm8,
        Isa::Avx512 => Code::EVEX_Vpermilps_zmm_k1z_zmmm512b32_imm8,
    };
    let quarters = Code::EVEX_Vshuff32x4_zmm_k1z_zmm_zmmm512b32_imm8;
    match (swap, isa) {
        (Swap::By8, Isa::Avx2) => None,
        (Swap::By8, Isa::Avx512) => Some((quarters, true, 0x4e)),
        (Swap::By4, Isa::Avx2) => Some((Code::VEX_Vperm2f128_ymm_ymm_ymmm256_imm8, true, 0x01)),
        (Swap::By4, Isa::Avx512) => Some((quarters, true, 0xb1)),
        (Swap::By2, _) => Some((within, false, 0x4e)),
        (Swap::By1, _) => Some((within, false, 0xb1)),
    }
}

/// The instruction, and the condition that it is told.
pub(super) fn compare(op: Op) -> Option<(Pair, Option<u32>)> {
    let float = (Code::VEX_Vcmpps_ymm_ymm_ymmm256_imm8, Code::EVEX_Vcmpps_kr_k1_zmm_zmmm512b32_imm8_sae);
    let condition = match op {
        Op::Compare(Compare::Equal) => 0x00,
        Op::Compare(Compare::Less) => 0x11,
        Op::Compare(Compare::LessEqual) => 0x12,
        Op::Compare(Compare::NotEqual) => 0x04,
        Op::Compare(Compare::Unordered) => 0x03,
        Op::EqualInt => {
            let pair = (Code::VEX_Vpcmpeqd_ymm_ymm_ymmm256, Code::EVEX_Vpcmpeqd_kr_k1_zmm_zmmm512b32);
            return Some((pair, None));
        }
        Op::GreaterInt => {
            let pair = (Code::VEX_Vpcmpgtd_ymm_ymm_ymmm256, Code::EVEX_Vpcmpgtd_kr_k1_zmm_zmmm512b32);
            return Some((pair, None));
        }
        _ => return None,
    };
    Some((float, Some(condition)))
}

pub(super) fn logic(op: Logic) -> Pair {
    match op {
        Logic::And => (Code::VEX_Vandps_ymm_ymm_ymmm256, Code::VEX_Kandw_kr_kr_kr),
        Logic::Or => (Code::VEX_Vorps_ymm_ymm_ymmm256, Code::VEX_Korw_kr_kr_kr),
        Logic::Xor => (Code::VEX_Vxorps_ymm_ymm_ymmm256, Code::VEX_Kxorw_kr_kr_kr),
    }
}
