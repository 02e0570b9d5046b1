//! Loop nests over named buffers: how a program is computed.
//!
//! [`ir`] holds the data structures. [`lower`] turns graphs into them, [`buffers`] lays temporary
//! buffers out in one arena, [`interp`] runs them slowly and checked, [`mod@print`] shows them,
//! [`verify`] checks them. Nothing here knows Cranelift.

pub mod buffers;
pub mod hoist;
pub mod interp;
pub mod ir;
pub mod lower;
pub mod marks;
pub mod print;
pub mod private;
pub mod promote;
pub mod verify;
pub mod walk;
