//! The form of a file of the cache.
//!
//! ```text
//! magic  lengths of key, text and code  key  text  code  two checksums of all before
//! ```
//!
//! Lengths are 64-bit, little-endian. A file that is shorter or longer than they say, or whose sums are others, is
//! damaged, and so no entry. Two sums, a CRC and an FNV, notice every change of a few bytes,
//! and all but one in 2^96 of others.

use flate2::Crc;

/// Begins every file; the number is that of this form.
const MAGIC: &[u8; 8] = b"mdlcach1";
const HEAD: usize = 8 + 3 * 8;
const SUMS: usize = 4 + 8;

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry<'a> {
    /// Everything that it was made from and for, in full: names of files are hashes, and hashes may meet.
    pub key: &'a [u8],
    /// What is known of the program, as JSON.
    pub text: &'a [u8],
    /// The bytes of its code.
    pub code: &'a [u8],
}

impl<'a> Entry<'a> {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let parts = [self.key, self.text, self.code];
        let len: usize = parts.iter().map(|part| part.len()).sum();
        let mut bytes = Vec::with_capacity(HEAD + len + SUMS);
        bytes.extend_from_slice(MAGIC);
        parts.iter().for_each(|part| bytes.extend_from_slice(&(part.len() as u64).to_le_bytes()));
        parts.iter().for_each(|part| bytes.extend_from_slice(part));
        let (crc, fnv) = sums(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.extend_from_slice(&fnv.to_le_bytes());
        bytes
    }

    /// `None` for anything but what [`Entry::to_bytes`] gave.
    pub(super) fn of(bytes: &'a [u8]) -> Option<Entry<'a>> {
        let (body, found) = bytes.split_at_checked(bytes.len().checked_sub(SUMS)?)?;
        let (crc, fnv) = sums(body);
        if found[..4] != crc.to_le_bytes() || found[4..] != fnv.to_le_bytes() {
            return None;
        }
        let (head, mut rest) = body.split_at_checked(HEAD)?;
        let (magic, lens) = head.split_at(MAGIC.len());
        if magic != MAGIC {
            return None;
        }
        let mut take = |at: usize| {
            let len = u64::from_le_bytes(lens.get(8 * at..8 * at + 8)?.try_into().ok()?);
            let (part, after) = rest.split_at_checked(usize::try_from(len).ok()?)?;
            rest = after;
            Some(part)
        };
        let (key, text, code) = (take(0)?, take(1)?, take(2)?);
        rest.is_empty().then_some(Entry { key, text, code })
    }
}

fn sums(bytes: &[u8]) -> (u32, u64) {
    let mut crc = Crc::new();
    crc.update(bytes);
    (crc.sum(), hash(bytes) as u64)
}

/// FNV-1a in 128 bits, eight bytes at a time.
pub(super) fn hash(bytes: &[u8]) -> u128 {
    const PRIME: u128 = (1 << 88) + 0x13b;
    let mut hash: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    let mut step = |word: u64| {
        hash = (hash ^ u128::from(word)).wrapping_mul(PRIME);
        // Without it the upper bits of a word would never reach the lower ones of the hash.
        hash ^= hash >> 67;
    };
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().for_each(|word| step(u64::from_le_bytes(*word)));
    rest.iter().for_each(|byte| step(u64::from(*byte)));
    step(bytes.len() as u64);
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Vec<u8> {
        Entry { key: b"what it is for", text: b"{\"a\": 1}", code: &[0x90; 100] }.to_bytes()
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = entry();
        let read = Entry::of(&bytes).unwrap();
        assert_eq!((read.key, read.text), (&b"what it is for"[..], &b"{\"a\": 1}"[..]));
        assert_eq!(read.code, [0x90; 100]);
    }

    #[test]
    fn damage_at_any_byte_is_noticed() {
        let whole = entry();
        for at in 0..whole.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= change;
                assert_eq!(Entry::of(&damaged), None, "byte {at}");
            }
            assert_eq!(Entry::of(&whole[..at]), None, "the first {at} bytes");
        }
        assert_eq!(Entry::of(&[whole.clone(), vec![0]].concat()), None);
        assert_eq!(Entry::of(&[]), None);
    }

    #[test]
    fn hashes_depend_on_every_bit() {
        let text = [7u8; 37];
        let all: std::collections::BTreeSet<u128> = (0..8 * text.len())
            .map(|bit| {
                let mut changed = text;
                changed[bit / 8] ^= 1 << (bit % 8);
                hash(&changed)
            })
            .chain([hash(&text), hash(&text[..36]), hash(&[])])
            .collect();
        assert_eq!(all.len(), 8 * text.len() + 3);
    }
}
