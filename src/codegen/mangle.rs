//! Names of models as C identifiers, without collisions.
//!
//! Letters and digits stay; `_` becomes `__`, `.` becomes `_d`, any other character `_x` with its
//! code in hexadecimal and a closing `_`; a leading digit is preceded by `_n`. Reading from the
//! left undoes it, so two names never share an identifier.

use std::fmt::Write;

/// The C identifier of a name.
pub fn mangle(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 8);
    for (at, c) in name.chars().enumerate() {
        match c {
            '0'..='9' if at == 0 => {
                out.push_str("_n");
                out.push(c);
            }
            'a'..='z' | 'A'..='Z' | '0'..='9' => out.push(c),
            '_' => out.push_str("__"),
            '.' => out.push_str("_d"),
            other => {
                let written = write!(out, "_x{:x}_", u32::from(other));
                debug_assert!(written.is_ok(), "invariant: strings can be written to");
            }
        }
    }
    out
}

/// Whether a name can stand in C as it is.
pub fn is_c_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_')
        && chars.all(|c| c.is_ascii_alphanumeric() || c == '_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_do_not_collide() {
        let names = ["a.b", "a_b", "a_d", "a__b", "a b", "a_x20_b", "1a", "_n1a", "é", "a_db", "a._b"];
        let mangled: std::collections::BTreeSet<String> = names.iter().map(|n| mangle(n)).collect();
        assert_eq!(mangled.len(), names.len());
        assert!(mangled.iter().all(|name| is_c_identifier(name)));
        assert_eq!(mangle("lstm.forward"), "lstm_dforward");
    }
}
