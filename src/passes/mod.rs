//! Rewrites of the graph. One table says which run and in what order.
//!
//! A pass is a function from a program to whether it changed anything. It keeps every invariant
//! of [`crate::graph::verify`], which runs after each pass in tests and debug builds, and every
//! value that a user can see, up to what the language allows (see the crate documentation).
//! Passes match normalised nodes only, never names of modules, functions or files.

pub mod attend;
pub mod bindtime;
pub mod blocks;
pub mod cse;
pub mod dce;
pub mod epilogue;
pub mod fold_scales;
pub mod fuse;
pub mod hoist;
pub mod inline;
pub mod layout;
pub mod matmul;
pub mod pack;
pub mod pad;
pub mod regions;
pub mod route;
mod scan;
pub mod segment;
pub mod simplify;
pub mod split_axes;
pub mod split_bind;
pub mod transposed;
pub mod walk;
pub mod winograd;

use crate::graph::ir::Program;

/// Whether a pass changed the program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Something is different.
    Yes,
    /// Nothing is.
    No,
}

impl From<bool> for Changed {
    fn from(yes: bool) -> Self {
        if yes { Changed::Yes } else { Changed::No }
    }
}

impl std::ops::BitOrAssign for Changed {
    fn bitor_assign(&mut self, other: Changed) {
        if other == Changed::Yes {
            *self = Changed::Yes;
        }
    }
}

/// A pass of the table.
pub struct Pass {
    /// What `--after` calls it.
    pub name: &'static str,
    /// One line on what it is for.
    pub purpose: &'static str,
    /// The rewrite.
    pub run: fn(&mut Program) -> Changed,
}

/// All passes in the order they run.
pub const PIPELINE: &[Pass] = &[
    Pass {
        name: "inline",
        purpose: "puts small functions, and those called once, in place of their calls",
        run: inline::inline,
    },
    Pass {
        name: "simplify",
        purpose: "brings index arithmetic to normal form and folds what is known",
        run: simplify::simplify,
    },
    Pass { name: "cse", purpose: "computes equal values once", run: cse::cse },
    Pass { name: "fuse", purpose: "substitutes pointwise definitions into their readers", run: fuse::fuse },
    Pass {
        name: "hoist",
        purpose: "moves what no carry reaches out of recurrences, as one large op",
        run: hoist::hoist,
    },
    Pass {
        name: "solve-windows",
        purpose: "makes sums over windows of those that say where their terms go, as transposed convolutions do",
        run: transposed::solve_windows,
    },
    Pass {
        name: "fuse-slices",
        purpose: "substitutes the slices that hoisting left into their readers",
        run: fuse::fuse,
    },
    Pass {
        name: "fold-scales",
        purpose: "moves scales that depend on weights alone, as of batch norms, into the weights",
        run: fold_scales::fold_scales,
    },
    Pass {
        name: "choose-layouts",
        purpose: "orders the axes of what users do not see so that windows read contiguous channels",
        run: layout::choose_layouts,
    },
    Pass {
        name: "split-axes",
        purpose: "makes two axes of one whose digits are indices, as of heads behind each other",
        run: split_axes::split_axes,
    },
    Pass {
        name: "recognise-segments",
        purpose: "turns reductions under an equality with a computed key into one pass",
        run: segment::recognise_segments,
    },
    Pass {
        name: "recognise-scans",
        purpose: "takes reductions up to each result index as steps from one to the next",
        run: scan::recognise_scans,
    },
    Pass {
        name: "pad-windows",
        purpose: "copies what the windows of convolutions reach into with its border of zeros",
        run: pad::pad_windows,
    },
    Pass {
        name: "recognise-products",
        purpose: "finds matrix products, batched, with index groups as views",
        run: matmul::recognise_products,
    },
    Pass {
        name: "recognise-routes",
        purpose: "finds products with matrices that are picked at run time, as of experts",
        run: route::recognise_routes,
    },
    Pass {
        name: "fuse-epilogues",
        purpose: "applies what follows a product to its accumulators",
        run: epilogue::fuse_epilogues,
    },
    Pass {
        name: "transform-windows",
        purpose: "computes convolutions with windows of three by three from transformed tiles",
        run: winograd::transform_windows,
    },
    Pass {
        name: "form-regions",
        purpose: "gathers attention and row statistics into loops over their rows",
        run: regions::form_regions,
    },
    Pass {
        name: "tile-attention",
        purpose: "marks attention that never needs all its scores at once",
        run: attend::tile_attention,
    },
    Pass {
        name: "block-attention",
        purpose: "marks attention that holds its scores for some queries at a time",
        run: blocks::block_attention,
    },
    Pass { name: "dce", purpose: "drops what nothing uses", run: dce::dce },
    Pass { name: "pack", purpose: "lays weights out as the kernels read them", run: pack::pack },
    Pass {
        name: "split-bind",
        purpose: "moves what depends on weights alone into the bind function",
        run: split_bind::split_bind,
    },
];

/// Runs the table, or its part up to and including pass `last`, calling `after` behind each.
///
/// # Errors
/// Whatever `after` returns: the verifier's error, in debug builds.
pub fn run<E>(
    program: &mut Program,
    last: Option<&str>,
    after: &mut dyn FnMut(&Pass, &Program) -> Result<(), E>,
) -> Result<(), E> {
    for pass in PIPELINE {
        (pass.run)(program);
        after(pass, program)?;
        if last == Some(pass.name) {
            break;
        }
    }
    Ok(())
}
