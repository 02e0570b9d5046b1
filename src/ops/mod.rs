//! What each operation means: type rule, value, cost. How it is computed lives elsewhere
//! (`loops/lower`), so that these definitions stay an independent oracle.

pub mod cost;
pub mod init;
pub mod reduce;
pub mod scalar;
pub mod top_k;
pub mod value;
