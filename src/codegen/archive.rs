//! Static libraries: the `ar` format with one member and its symbol index.
//!
//! The layout is the one GNU and LLVM linkers read: a magic line, a member named `/` that lists
//! the exported symbols with the big-endian offset of the member that has them, then the object.
//! Times and owners are zero, so equal objects give equal archives.

const MAGIC: &[u8] = b"!<arch>\n";
const HEADER_BYTES: usize = 60;

/// An archive of one object that exports `symbols`.
pub(crate) fn archive(member: &str, object: &[u8], symbols: &[String]) -> Vec<u8> {
    let names: usize = symbols.iter().map(|name| name.len() + 1).sum();
    let index_bytes = 4 + 4 * symbols.len() + names;
    let object_at = MAGIC.len() + HEADER_BYTES + index_bytes.next_multiple_of(2);
    let mut out = Vec::with_capacity(object_at + HEADER_BYTES + object.len() + 1);
    out.extend_from_slice(MAGIC);
    push_header(&mut out, "/", index_bytes);
    out.extend_from_slice(&(symbols.len() as u32).to_be_bytes());
    for _ in symbols {
        out.extend_from_slice(&(object_at as u32).to_be_bytes());
    }
    for name in symbols {
        out.extend_from_slice(name.as_bytes());
        out.push(0);
    }
    pad(&mut out);
    // Names of up to 15 characters end with a slash; longer ones would need a table.
    let short: String = member.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').take(15).collect();
    push_header(&mut out, &format!("{short}/"), object.len());
    out.extend_from_slice(object);
    pad(&mut out);
    out
}

fn push_header(out: &mut Vec<u8>, name: &str, size_bytes: usize) {
    let header = format!("{name:<16}{:<12}{:<6}{:<6}{:<8}{size_bytes:<10}`\n", 0, 0, 0, "644");
    out.extend_from_slice(header.as_bytes());
}

/// Members start at even offsets.
fn pad(out: &mut Vec<u8>) {
    if !out.len().is_multiple_of(2) {
        out.push(b'\n');
    }
}
