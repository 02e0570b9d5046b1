//! Functions that the compiler knows.

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Builtin {
    /// `len(list)`
    Len,
}
