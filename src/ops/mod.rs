//! What each operation means: type rule, value, cost. How it is computed lives elsewhere
//! (`loops/lower`), so that these definitions stay an independent oracle.

pub mod cost;
pub mod reduce;
pub mod scalar;
