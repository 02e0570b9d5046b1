//! Code does not grow with depth or with length.

use crate::harness::{Sizes, calls, elaborated, nodes};
use mdlc::codegen::target::{Grain, Kernels, Options};
use mdlc::graph::ir::Program;
use mdlc::graph::verify::verify_after;
use mdlc::loops::lower::lower;
use mdlc::runtime::Compiled;

/// What a call may add to the code of its caller, bind and call together.
const INSTS_PER_CALL: usize = 120;

fn optimised(text: &str, dims: Sizes) -> Program {
    let (mut program, _) = elaborated(text, dims);
    mdlc::passes::run(&mut program, None, &mut |pass, program| verify_after(pass.name, program)).unwrap();
    program
}

/// Of the code without wide kernels, which are chosen by the rows that there are.
fn instructions(program: &Program) -> usize {
    instructions_with(program, Kernels::None)
}

/// For one thread, since long work is divided and short work is not.
fn instructions_with(program: &Program, kernels: Kernels) -> usize {
    let options = Options { kernels, grain: Grain::NEVER, ..Options::default() };
    let compiled = Compiled::with(lower(program).unwrap(), options, None).unwrap();
    compiled.functions().iter().map(|f| f.stats.clif_insts).sum()
}

/// A stack of blocks, the first of which gets the input as declared and the others what a norm gives.
fn stack(depth: usize) -> String {
    format!(
        "use std.nn.{{Linear, LayerNorm}}
        module Block(D) {{
            norm = LayerNorm([D])
            up = Linear(D, 2 * D)
            down = Linear(2 * D, D)
            forward(x: [B, D]) -> [B, D] = norm(x + down(tanh(up(x))))
        }}
        module M {{
            layers = [Block(4); {depth}]
            forward(x: [B, 4]) -> [B, 4] = layers(x)
        }}"
    )
}

#[test]
fn a_deep_stack_differs_from_a_shallow_one_by_calls_only() {
    let (shallow, deep) = (optimised(&stack(2), &[]), optimised(&stack(12), &[]));
    assert_eq!(deep.functions.len(), shallow.functions.len());
    let (few, many) = (calls(&shallow), calls(&deep));
    // The first layer too, and each binds its weights.
    assert_eq!((few, many), (2 * 2, 2 * 12));
    assert_eq!(nodes(&deep) - many, nodes(&shallow) - few);
    let (small, large) = (instructions(&shallow), instructions(&deep));
    let most = (many - few) * INSTS_PER_CALL;
    assert!(large >= small && large - small <= most, "{small} and {large} instructions, at most {most} more");
}

#[test]
fn a_long_recurrence_is_as_short_as_a_short_one() {
    let text = "module M {
            param w: [3, 3] = normal(0.5)
            param u: [3, 3] = normal(0.5)
            forward(x: [B, T, 3]) {
                recur t in 0..T {
                    init h[:, t - 1]: [B, 3] = 0
                    h[:, t] = tanh(x[:, t] @ w.T + h[:, t - 1] @ u.T)
                }
                h
            }
        }";
    let of = |steps: i64| {
        let program = optimised(text, &[("B", 5), ("T", steps)]);
        (nodes(&program), instructions(&program), instructions_with(&program, Kernels::Widest))
    };
    // Multiples of the vectors, so that neither has a remainder to do.
    let (short, long, longer) = (of(16), of(1600), of(160_000));
    assert_eq!((short.0, short.1), (long.0, long.1));
    // Wide kernels divide many rows into panels; more of them change nothing.
    assert_eq!(long, longer);
}
