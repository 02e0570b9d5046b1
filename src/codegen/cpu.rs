//! The check that a processor has what an object was compiled for, as machine code.
//!
//! It must run on any x86-64, so it cannot come out of a back end that was told of newer
//! instructions. The bytes below use nothing beyond the baseline; they take the context in `rdi`
//! (System V), fill it in and return [`Status::Ok`], or return [`Status::Cpu`] and leave a version
//! of zero in it, with which no other function of the object goes on.

use super::abi::{ABI_VERSION, Status, offset};
use super::target::Cpu;

/// Feature bits by where `cpuid` reports them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Masks {
    leaf1_ecx: u32,
    leaf7_ebx: u32,
    leaf7_ecx: u32,
    extended_ecx: u32,
    /// Register state that the system must save.
    xcr0: u32,
}

impl Masks {
    fn of(features: &[&str]) -> Self {
        let mut masks = Masks::default();
        for feature in features {
            match *feature {
                "sse3" => masks.leaf1_ecx |= 1,
                "ssse3" => masks.leaf1_ecx |= 1 << 9,
                "sse4.1" => masks.leaf1_ecx |= 1 << 19,
                "sse4.2" => masks.leaf1_ecx |= 1 << 20,
                "popcnt" => masks.leaf1_ecx |= 1 << 23,
                "fma" => masks.wide(1 << 12),
                "avx" => masks.wide(1 << 28),
                "avx2" => masks.leaf7_ebx |= 1 << 5,
                "bmi1" => masks.leaf7_ebx |= 1 << 3,
                "bmi2" => masks.leaf7_ebx |= 1 << 8,
                "avx512f" => {
                    masks.leaf7_ebx |= 1 << 16;
                    masks.xcr0 |= 0xe6;
                }
                "avx512bw" => masks.leaf7_ebx |= 1 << 30,
                "avx512dq" => masks.leaf7_ebx |= 1 << 17,
                "avx512vl" => masks.leaf7_ebx |= 1 << 31,
                "avx512vbmi" => masks.leaf7_ecx |= 1 << 1,
                "avx512bitalg" => masks.leaf7_ecx |= 1 << 12,
                "lzcnt" => masks.extended_ecx |= 1 << 5,
                _ => {}
            }
        }
        masks
    }

    /// A feature of leaf 1 with wide registers: the system must save them, and OSXSAVE says that
    /// XCR0, which tells, can be read.
    fn wide(&mut self, bit: u32) {
        self.leaf1_ecx |= bit | 1 << 27;
        self.xcr0 |= 6;
    }
}

/// Machine code under construction, with jumps to its two exits.
#[derive(Default)]
struct Bytes {
    code: Vec<u8>,
    to_fail: Vec<usize>,
}

impl Bytes {
    fn push(&mut self, bytes: &[u8]) {
        self.code.extend_from_slice(bytes);
    }

    fn push_u32(&mut self, opcode: &[u8], value: u32) {
        self.push(opcode);
        self.push(&value.to_le_bytes());
    }

    /// `mov eax, leaf; xor ecx, ecx; cpuid`
    fn cpuid(&mut self, leaf: u32) {
        self.push_u32(&[0xb8], leaf);
        self.push(&[0x31, 0xc9, 0x0f, 0xa2]);
    }

    /// `and reg, mask; cmp reg, mask; jne fail` for the ModRM bytes of the two instructions.
    fn require(&mut self, and: u8, cmp: u8, mask: u32) {
        self.push_u32(&[0x81, and], mask);
        self.push_u32(&[0x81, cmp], mask);
        self.push(&[0x0f, 0x85]);
        self.to_fail.push(self.code.len());
        self.push(&[0; 4]);
    }
}

/// The code of `_init` for objects that use what a processor has.
#[cfg(target_arch = "x86_64")]
pub(crate) fn init_code(cpu: Cpu) -> Option<Vec<u8>> {
    Some(code(Masks::of(&cpu.features())))
}

/// Elsewhere there is nothing to check.
#[cfg(not(target_arch = "x86_64"))]
pub(crate) fn init_code(_: Cpu) -> Option<Vec<u8>> {
    None
}

fn code(masks: Masks) -> Vec<u8> {
    let mut b = Bytes::default();
    // test rdi, rdi; jne +6; mov eax, Null; ret
    b.push(&[0x48, 0x85, 0xff, 0x75, 0x06]);
    b.push_u32(&[0xb8], Status::Null as u32);
    b.push(&[0xc3]);
    b.push(&[0x53]); // push rbx, which cpuid overwrites
    b.cpuid(1);
    b.require(0xe1, 0xf9, masks.leaf1_ecx);
    b.cpuid(7);
    b.require(0xe3, 0xfb, masks.leaf7_ebx);
    b.require(0xe1, 0xf9, masks.leaf7_ecx);
    b.cpuid(0x8000_0001);
    b.require(0xe1, 0xf9, masks.extended_ecx);
    if masks.xcr0 != 0 {
        b.push(&[0x31, 0xc9, 0x0f, 0x01, 0xd0]); // xor ecx, ecx; xgetbv
        b.require(0xe0, 0xf8, masks.xcr0);
    }
    store_u32(&mut b, offset::VERSION, ABI_VERSION);
    store_u32(&mut b, offset::RESERVED, 0);
    store_u64(&mut b, offset::EXEC, 0);
    store_u64(&mut b, offset::SITE, u32::MAX); // sign-extended: -1
    b.push(&[0x31, 0xc0, 0x5b, 0xc3]); // xor eax, eax; pop rbx; ret
    let fail = b.code.len();
    for at in std::mem::take(&mut b.to_fail) {
        let distance = (fail - (at + 4)) as u32;
        b.code[at..at + 4].copy_from_slice(&distance.to_le_bytes());
    }
    store_u32(&mut b, offset::VERSION, 0);
    b.push_u32(&[0xb8], Status::Cpu as u32);
    b.push(&[0x5b, 0xc3]); // pop rbx; ret
    b.code
}

/// `mov dword [rdi + at], value`
fn store_u32(b: &mut Bytes, at: i32, value: u32) {
    b.push(&[0xc7, 0x47, at as u8]);
    b.push(&value.to_le_bytes());
}

/// `mov qword [rdi + at], value`, sign-extended
fn store_u64(b: &mut Bytes, at: i32, value: u32) {
    b.push(&[0x48, 0xc7, 0x47, at as u8]);
    b.push(&value.to_le_bytes());
}
