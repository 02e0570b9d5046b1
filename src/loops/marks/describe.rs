//! What a marked statement is, in a few words with sizes.

use super::super::ir::{Gemm, LoopFunc, LoopProgram, Scalar, ScalarId, Stmt};
use super::super::walk::{bodies, roots};
use super::values::{Dims, Values};
use super::{products, statements};

/// What each mark's statement is, by number, for given sizes.
///
/// | text | statement |
/// | --- | --- |
/// | `product 64x2304x768` | a matrix product of 64 rows, 2304 columns, 768 terms; `over 12` further terms |
/// | `products 64x64x64 in loops of 12` | a loop nest around products, as of attention |
/// | `reduction 64x768` | a loop nest that reduces |
/// | `loop 64x768` | a loop nest that computes elements |
/// | `copy 64x768` | one that moves them |
/// | `call f` | a call |
pub fn describe(program: &LoopProgram, dims: Dims<'_>) -> Vec<String> {
    statements(program)
        .iter()
        .map(|(func, stmt)| one(program, &program.functions[*func], stmt, dims))
        .collect()
}

fn one(program: &LoopProgram, func: &LoopFunc, stmt: &Stmt, dims: Dims<'_>) -> String {
    let values = Values::new(func, dims);
    let size = |id: ScalarId| values.int(id).map_or_else(|| "?".to_string(), |size| size.to_string());
    let product = |gemm: &Gemm| [gemm.m, gemm.n, gemm.k].map(size).join("x");
    match stmt {
        Stmt::Call { func, .. } => return format!("call {}", program.functions[*func].name),
        Stmt::Kernel(_) => {
            let found = products(stmt);
            let gemm = found.first().expect("invariant: a kernel is a product");
            let outer: Vec<String> = gemm.outer.iter().map(|axis| size(axis.extent)).collect();
            let over = if outer.is_empty() { String::new() } else { format!(" over {}", outer.join("x")) };
            return format!("product {}{over}", product(gemm));
        }
        _ => {}
    }
    let extents = extents(stmt, &size);
    match products(stmt).first() {
        Some(gemm) => {
            let around = &extents[..extents.len().min(depth_of_product(stmt))];
            let one = product(gemm);
            format!("products {one} in loops of {}", around.join("x"))
        }
        None if any(stmt, &|stmt| matches!(stmt, Stmt::Reduce { .. })) => {
            format!("reduction {}", extents.join("x"))
        }
        None if any(stmt, &|stmt| computes(func, stmt)) => format!("loop {}", extents.join("x")),
        None => format!("copy {}", extents.join("x")),
    }
}

/// The extents of a loop and of the longest chain of first loops inside.
fn extents(stmt: &Stmt, size: &dyn Fn(ScalarId) -> String) -> Vec<String> {
    match stmt {
        Stmt::For { extent, body, .. } => {
            let inner = body.iter().find(|stmt| matches!(stmt, Stmt::For { .. } | Stmt::If { .. }));
            let inner = inner.map_or_else(Vec::new, |inner| extents(inner, size));
            std::iter::once(size(*extent)).chain(inner).collect()
        }
        Stmt::If { then, .. } => then.first().map_or_else(Vec::new, |stmt| extents(stmt, size)),
        _ => Vec::new(),
    }
}

/// How many loops lie around the first product.
fn depth_of_product(stmt: &Stmt) -> usize {
    let own = usize::from(matches!(stmt, Stmt::For { .. }));
    let inside = bodies(stmt).flatten().find(|stmt| !products(stmt).is_empty());
    own + inside.map_or(0, depth_of_product)
}

fn any(stmt: &Stmt, wanted: &dyn Fn(&Stmt) -> bool) -> bool {
    wanted(stmt) || bodies(stmt).flatten().any(|stmt| any(stmt, wanted))
}

/// Whether a statement stores something other than an element that it loads, or a constant.
fn computes(func: &LoopFunc, stmt: &Stmt) -> bool {
    let is_store = matches!(stmt, Stmt::Store { .. } | Stmt::Set { .. });
    is_store
        && roots(stmt).into_iter().any(|root| {
            func.scalars.dtype(root).is_float()
                && matches!(
                    func.scalars.get(root),
                    Scalar::Unary(..) | Scalar::Binary(..) | Scalar::Select(..) | Scalar::Cast(_)
                )
        })
}
