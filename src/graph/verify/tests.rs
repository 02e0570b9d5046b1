use super::super::expr::{Expr, ExprId, Literal};
use super::super::fixture::*;
use super::super::ir::*;
use super::*;
use crate::ops::reduce::Reducer;
use crate::ops::scalar::{BinaryOp, UnaryOp};

const F: DType = DType::F32;
const I: DType = DType::I64;

/// `y[b, d] = x[b, d]`, with the op, its shape and operands changed by `edit`.
fn mapped(edit: impl FnOnce(&mut Index, &mut Vec<Dim>)) -> Program {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), sym("D")]);
    let iterate = axes(&[("b", sym("B")), ("d", sym("D"))]);
    let mut index = map(iterate, |e| at(e, 0, F, &[0, 1]));
    let mut shape = vec![sym("B"), sym("D")];
    edit(&mut index, &mut shape);
    let y = f.graph.add_index(index, shape, &[x], span(), None);
    f.program(&[y])
}

/// `y[b] = sum[d] x[b, d]`, with the op changed by `edit`.
fn summed(edit: impl FnOnce(&mut Index)) -> Program {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), sym("D")]);
    let mut index =
        reduce(axes(&[("b", sym("B"))]), Reducer::Sum, axes(&[("d", sym("D"))]), |e| at(e, 0, F, &[0, 1]));
    edit(&mut index);
    let y = f.graph.add_index(index, vec![sym("B")], &[x], span(), None);
    f.program(&[y])
}

/// Replaces the body by a raw expression.
fn body(index: &mut Index, expr: Expr, dtype: DType) {
    index.body = index.exprs.add(expr, dtype);
}

#[track_caller]
fn rejects(program: &Program, message: &str) {
    let error = verify(program).expect_err("it must not pass");
    assert!(error.message.contains(message), "{error}");
}

#[test]
fn what_is_valid_passes() {
    assert_eq!(verify(&mapped(|_, _| {})), Ok(()));
    assert_eq!(verify(&summed(|_| {})), Ok(()));
}

#[test]
fn errors_name_pass_function_and_value() {
    let program = mapped(|index, _| index.iterate.truncate(1));
    let error = verify_after("fuse", &program).unwrap_err();
    assert_eq!(
        error.to_string(),
        "the graph is not valid after pass `fuse`, in `test.forward`, at %1: index 1 of an op that has 1 \
         (expression 1)"
    );
    assert_eq!(error.to_diagnostic().exit_code(), 70);
}

#[test]
fn rejects_a_cycle() {
    let mut program = mapped(|_, _| {});
    let y = program.functions[0].graph.results[0];
    program.functions[0].graph.set_operands(y.node, &[y]);
    rejects(&program, "cycle");
}

#[test]
fn rejects_ports_that_are_not_contiguous() {
    let mut program = mapped(|_, _| {});
    let graph = &mut program.functions[0].graph;
    let (arg, node) = (graph.args[0], graph.results[0].node);
    graph.dag.add_edge(arg, node, Edge { result: 0, port: 2 });
    rejects(&program, "not contiguous");
}

#[test]
fn rejects_an_operand_that_does_not_exist() {
    let mut program = mapped(|_, _| {});
    let graph = &mut program.functions[0].graph;
    let (arg, node) = (graph.args[0], graph.results[0].node);
    graph.set_operands(node, &[Value { node: arg, result: 1 }]);
    rejects(&program, "no such result");
}

#[test]
fn rejects_results_that_do_not_exist() {
    let mut program = mapped(|_, _| {});
    program.functions[0].graph.results[0].result = 3;
    rejects(&program, "result 0 of the graph does not exist");
}

#[test]
fn rejects_arguments_out_of_order() {
    let mut program = mapped(|_, _| {});
    let graph = &mut program.functions[0].graph;
    let arg = graph.args[0];
    graph.dag[arg].op = Op::Arg(1);
    rejects(&program, "argument 0 is not an `Arg(0)` node");
}

#[test]
fn rejects_a_signature_that_differs() {
    let mut program = mapped(|_, _| {});
    program.signature.inputs[0].ty.dtype = I;
    rejects(&program, "argument of the entry 0 is f32[B, D], expected i64[B, D]");
    program.signature.inputs.clear();
    rejects(&program, "there are 1 of argument of the entry, expected 0");
}

#[test]
fn rejects_sizes_that_differ() {
    rejects(&mapped(|_, shape| shape[1] = sym("T")), "B*D points make up B*T elements");
    rejects(&mapped(|index, _| index.iterate[1].extent = k(3)), "3*B points make up B*D elements");
}

#[test]
fn accepts_undecided_sizes_where_checks_were_recorded() {
    let mut program = mapped(|_, shape| shape[1] = sym("T"));
    program.checks.push(DimCheck {
        condition: DimCondition::Eq(sym("D"), sym("T")),
        code: DimCheck::REQUIRED,
        message: String::new(),
        span: span(),
    });
    assert_eq!(verify(&program), Ok(()));
}

#[test]
fn rejects_more_than_eight_axes() {
    rejects(&mapped(|_, shape| shape.extend(vec![k(1); 7])), "has 9 axes, more than 8");
}

#[test]
fn rejects_unknown_symbols() {
    let other = Dim::symbol(crate::dim::Symbol::new("Q", 99));
    rejects(&mapped(|index, _| index.iterate[0].extent = other), "`Q` is no dimension");
}

#[test]
fn rejects_reads_of_wrong_rank_port_or_type() {
    let wrong_rank = mapped(|index, _| index.body = at(&mut index.exprs, 0, F, &[0]));
    rejects(&wrong_rank, "gives 1 indices for 2 axes");
    let wrong_port = mapped(|index, _| index.body = at(&mut index.exprs, 1, F, &[0]));
    rejects(&wrong_port, "a read of operand 1, of 1");
    let wrong_type = mapped(|index, _| index.body = at(&mut index.exprs, 0, I, &[0, 1]));
    rejects(&wrong_type, "a read of f32 has type i64");
    let real_index = mapped(|index, _| {
        let (b, real) = (index.exprs.index(0), index.exprs.real(0.0, F));
        index.body = read(&mut index.exprs, 0, F, &[b, real], None);
    });
    rejects(&real_index, "an index of a read is f32, not i64");
    let wrong_else = mapped(|index, _| {
        let (b, d) = (index.exprs.index(0), index.exprs.index(1));
        index.body = read(&mut index.exprs, 0, F, &[b, d], Some(b));
    });
    rejects(&wrong_else, "gives i64 outside");
}

#[test]
fn rejects_illegal_operations() {
    let not = mapped(|index, _| body(index, Expr::Unary(UnaryOp::Not, index.body), F));
    rejects(&not, "`not` of f32");
    let modulo = mapped(|index, _| body(index, Expr::Binary(BinaryOp::Mod, index.body, index.body), F));
    rejects(&modulo, "`%` of f32");
    let mixed = mapped(|index, _| {
        let one = index.exprs.int(1);
        body(index, Expr::Binary(BinaryOp::Add, index.body, one), F);
    });
    rejects(&mixed, "`+` of f32 and i64");
    let result = mapped(|index, _| body(index, Expr::Binary(BinaryOp::Lt, index.body, index.body), F));
    rejects(&result, "`<` of f32 has type f32");
    let literal = mapped(|index, _| body(index, Expr::Const(Literal::Int(1)), F));
    rejects(&literal, "is no literal of type f32");
    let inexact = mapped(|index, _| body(index, Expr::Const(Literal::Real(0.1f64.to_bits())), F));
    rejects(&inexact, "is no literal of type f32");
}

#[test]
fn rejects_ill_typed_selections() {
    let condition = mapped(|index, _| body(index, Expr::Select(index.body, index.body, index.body), F));
    rejects(&condition, "the condition of a selection is f32");
    let branches = mapped(|index, _| {
        let (truth, one) = (index.exprs.bool(true), index.exprs.int(1));
        body(index, Expr::Select(truth, index.body, one), F);
    });
    rejects(&branches, "a selection between f32 and i64");
}

#[test]
fn rejects_expressions_out_of_order() {
    let program = mapped(|index, _| body(index, Expr::Unary(UnaryOp::Neg, ExprId(77)), F));
    rejects(&program, "does not precede it");
    let mut program = mapped(|_, _| {});
    let graph = &mut program.functions[0].graph;
    let id = graph.results[0].node;
    let Op::Index(index) = &mut graph.dag[id].op else { unreachable!() };
    index.body = ExprId(99);
    rejects(&program, "expression 99 does not exist");
}

#[test]
fn rejects_positions_outside_their_region() {
    let program = mapped(|index, _| {
        let (var, d) = (index.exprs.add(Expr::Var(VarId(0)), I), index.exprs.index(1));
        index.body = read(&mut index.exprs, 0, F, &[var, d], None);
    });
    rejects(&program, "position 0 is used outside its region");
}

#[test]
fn rejects_conditions_of_wrong_type_or_scope() {
    let guard = summed(|index| index.guard = Some(index.exprs.index(0)));
    rejects(&guard, "the guard is i64, not bool");
    let condition = |index: &mut Index| {
        let (d, one) = (index.exprs.index(1), index.exprs.int(1));
        index.exprs.binary(BinaryOp::Lt, d, one)
    };
    rejects(&summed(|index| index.guard = Some(condition(index))), "the guard uses a reduced index");
    let filter = summed(|index| index.reduce.as_mut().unwrap().filter = Some(index.body));
    rejects(&filter, "the filter is f32, not bool");
    let otherwise = summed(|index| index.reduce.as_mut().unwrap().otherwise = Some(index.body));
    rejects(&otherwise, "`otherwise` uses a reduced index");
    let typed = summed(|index| {
        let zero = index.exprs.int(0);
        index.reduce.as_mut().unwrap().otherwise = Some(zero);
    });
    rejects(&typed, "gives i64 over nothing");
    rejects(&summed(|index| index.reduce.as_mut().unwrap().reducer = Reducer::Any), "`any` of f32");
    let program = summed(|index| index.reduce.as_mut().unwrap().reducer = Reducer::ArgMax);
    assert_eq!(verify(&program), Ok(()));
}

#[test]
fn rejects_segments_whose_key_uses_the_selected_index() {
    let mut program = summed(|_| {});
    let graph = &mut program.functions[0].graph;
    let id = graph.results[0].node;
    let Op::Index(index) = graph.dag[id].op.clone() else { unreachable!() };
    let key = index.exprs.iter().find(|(_, e, _)| matches!(e, Expr::Index(0))).unwrap().0;
    let mut segment = Segment { index, axis: 0, key };
    graph.dag[id].op = Op::Segment(Box::new(segment.clone()));
    rejects(&program, "the key uses the index that it selects");
    segment.key = segment.index.body;
    program.functions[0].graph.dag[id].op = Op::Segment(Box::new(segment.clone()));
    rejects(&program, "the key is f32, not i64");
    segment.index.reduce = None;
    segment.index.body = segment.index.exprs.real(0.0, F);
    program.functions[0].graph.dag[id].op = Op::Segment(Box::new(segment));
    rejects(&program, "a segment without a reduction");
}

fn product(edit: impl FnOnce(&mut MatMul)) -> Program {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), sym("D")]);
    let w = f.input("w", F, &[sym("T"), sym("D")]);
    let view =
        |m: Dim, n: Dim| View { offset: k(0), vars: vec![], iterate: vec![m, n], contract: vec![k(1)] };
    let mut product = MatMul {
        iterate: axes(&[("b", sym("B")), ("t", sym("T"))]),
        roles: vec![Role::M, Role::N],
        contract: axes(&[("d", sym("D"))]),
        lhs: view(sym("D"), k(0)),
        rhs: view(k(0), sym("D")),
        pick: None,
        epilogue: None,
    };
    edit(&mut product);
    let y = f.op(Op::MatMul(Box::new(product)), vec![ty(F, &[sym("B"), sym("T")])], &[x, w]);
    f.program(&y)
}

/// Tiles of two by two results, of planes of four by four.
fn transform(edit: impl FnOnce(&mut Transform)) -> Program {
    const SUMS: &[f64] = &[1.0, 1.0, 1.0, 0.0, 0.0, 1.0, -1.0, -1.0];
    let mut f = Fixture::new();
    let x = f.input("x", F, &[k(4), k(4), sym("D")]);
    let mut transform = Transform {
        iterate: axes(&[("p", k(2)), ("q", k(2)), ("d", sym("D"))]),
        made: [0, 1],
        matrix: SmallMatrix { columns: 4, elements: SUMS },
        source: View {
            offset: k(0),
            vars: vec![],
            iterate: vec![k(0), k(0), k(1)],
            contract: vec![k(4).mul(&sym("D")).unwrap(), sym("D")],
        },
        epilogue: None,
    };
    edit(&mut transform);
    let y = f.op(Op::Transform(Box::new(transform)), vec![ty(F, &[k(2), k(2), sym("D")])], &[x]);
    f.program(&y)
}

#[test]
fn rejects_transforms_that_do_not_fit() {
    verify(&transform(|_| {})).unwrap();
    rejects(&transform(|t| t.made = [1, 0]), "a transform makes axes [1, 0] of 3");
    rejects(&transform(|t| t.made = [0, 2]), "a matrix of 2 rows makes");
    rejects(&transform(|t| t.matrix.columns = 3), "a matrix of 8 elements in 3 columns");
    rejects(&transform(|t| t.matrix.columns = 2), "a matrix of 4 rows makes 2 points");
    rejects(&transform(|t| t.source.iterate[0] = k(1)), "a transform reads along axis 0, which it makes");
    rejects(&transform(|t| t.source.contract.truncate(1)), "3 and 1 strides for 3 and 2 axes");
}

/// A product of which each row picks a matrix.
fn picked(edit: impl FnOnce(&mut MatMul)) -> Program {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), sym("D")]);
    let w = f.input("w", F, &[sym("E"), sym("T"), sym("D")]);
    let e = f.input("e", I, &[sym("B")]);
    let view = |iterate: [Dim; 2], contract: &[Dim]| View {
        offset: k(0),
        vars: vec![],
        iterate: iterate.to_vec(),
        contract: contract.to_vec(),
    };
    let mut product = MatMul {
        iterate: axes(&[("b", sym("B")), ("t", sym("T"))]),
        roles: vec![Role::M, Role::N],
        contract: axes(&[("d", sym("D"))]),
        lhs: view([sym("D"), k(0)], &[k(1)]),
        rhs: view([k(0), sym("D")], &[k(1)]),
        pick: Some(Pick {
            at: view([k(1), k(0)], &[]),
            extent: sym("E"),
            stride: sym("T").mul(&sym("D")).unwrap(),
            source: PickedRead { name: Some("w".into()), axis: 0, span: span() },
        }),
        epilogue: None,
    };
    edit(&mut product);
    let y = f.op(Op::MatMul(Box::new(product)), vec![ty(F, &[sym("B"), sym("T")])], &[x, w, e]);
    f.program(&y)
}

#[test]
fn rejects_products_that_pick_wrongly() {
    let at = |edit: fn(&mut View)| picked(|p| edit(&mut p.pick.as_mut().unwrap().at));
    assert_eq!(verify(&picked(|_| {})), Ok(()));
    rejects(&at(|at| at.iterate.truncate(1)), "the picks have 1 strides for 2 axes");
    rejects(&at(|at| at.iterate[1] = k(1)), "the picks walk axis 1, which has role N");
    rejects(&at(|at| at.contract.push(k(1))), "the picks walk a contracted axis");
    rejects(&at(|at| at.vars.push((VarId(3), k(1)))), "position 3 is used outside");
    let mut program = picked(|_| {});
    let graph = &mut program.functions[0].graph;
    let id = graph.results[0].node;
    let operands = graph.operands(id);
    graph.set_operands(id, &[operands[0], operands[1], operands[0]]);
    rejects(&program, "a product picks by f32");
    let graph = &mut program.functions[0].graph;
    graph.set_operands(id, &operands[..2]);
    rejects(&program, "by an operand that it has not");
}

#[test]
fn rejects_products_with_wrong_views() {
    assert_eq!(verify(&product(|_| {})), Ok(()));
    rejects(&product(|p| p.roles.truncate(1)), "1 roles for 2 axes");
    rejects(&product(|p| p.lhs.iterate[1] = k(1)), "the left view walks axis 1, which has role N");
    rejects(&product(|p| p.rhs.iterate[0] = k(1)), "the right view walks axis 0, which has role M");
    rejects(&product(|p| p.rhs.contract.clear()), "the right view has 2 and 0 strides");
    rejects(&product(|p| p.lhs.vars.push((VarId(3), k(1)))), "position 3 is used outside");
    let epilogue = |port: u32| {
        product(|p| {
            let mut exprs = super::super::expr::Exprs::new();
            let body = at(&mut exprs, port, F, &[0, 1]);
            p.epilogue = Some(Epilogue { exprs, body });
        })
    };
    rejects(&epilogue(0), "the accumulator is read with indices");
    rejects(&epilogue(1), "the epilogue reads a factor");
}

#[test]
fn rejects_top_k_of_too_few() {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[k(2)]);
    let y = f.op(Op::TopK(k(3)), vec![ty(F, &[k(3)]), ty(I, &[k(3)])], &[x]);
    rejects(&f.program(&y), "top_k takes 3 of 2");
}

#[test]
fn rejects_calls_that_do_not_match() {
    let call = |callee: u32, result: TensorType| {
        let mut f = Fixture::new();
        let mut graph = Graph::new();
        let a = graph.add_arg(ty(F, &[sym("B")]), span(), None);
        graph.results = vec![a];
        f.functions.push(Function { name: "f".into(), graph });
        let x = f.input("x", F, &[sym("B")]);
        let y = f.op(Op::Call(FuncId(callee)), vec![result], &[x]);
        f.program(&y)
    };
    assert_eq!(verify(&call(0, ty(F, &[sym("B")]))), Ok(()));
    rejects(&call(1, ty(F, &[sym("B")])), "does not precede it");
    rejects(&call(0, ty(F, &[sym("D")])), "result of the call 0 is f32[D], expected f32[B]");
}

fn recurrence(edit: impl FnOnce(&mut Recur)) -> Program {
    let mut f = Fixture::new();
    let h0 = f.input("h0", F, &[sym("B")]);
    let whole = ty(F, &[sym("B"), sym("T").add(&k(1)).unwrap()]);
    f.vars = 1;
    let mut body = Graph::new();
    let h = body.add_arg(whole.clone(), span(), None);
    let step = map(axes(&[("b", sym("B"))]), |e| {
        let (b, t) = (e.index(0), e.add(Expr::Var(VarId(0)), I));
        read(e, 0, F, &[b, t], None)
    });
    let next = body.add_index(step, vec![sym("B")], &[h], span(), None);
    body.results = vec![next];
    let sequences = vec![Sequence { name: "h".into(), axis: 1, lags: 1 }];
    let mut recur = Recur {
        var: VarId(0),
        name: "t".into(),
        start: k(0),
        extent: sym("T"),
        reverse: false,
        captures: 0,
        sequences,
        body,
    };
    edit(&mut recur);
    let y = f.op(Op::Recur(Box::new(recur)), vec![whole], &[h0]);
    f.program(&y)
}

#[test]
fn rejects_recurrences_that_do_not_match() {
    assert_eq!(verify(&recurrence(|_| {})), Ok(()));
    rejects(&recurrence(|r| r.sequences[0].lags = 2), "a recurrence has 1 operands, not 2");
    rejects(&recurrence(|r| r.extent = k(3)), "`h` has T + 1 positions, not 4");
    rejects(&recurrence(|r| r.sequences[0].axis = 0), "`h` has B positions, not T + 1");
    rejects(&recurrence(|r| r.sequences[0].axis = 2), "sequence `h` has no axis 2");
    rejects(&recurrence(|r| r.body.results.clear()), "there are 0 of result of a step, expected 1");
    rejects(&recurrence(|r| r.var = VarId(1)), "position 1 was never handed out");
    rejects(&recurrence(|r| r.body.args.clear()), "there are 0 of argument of the recurrence, expected 1");
}

#[test]
fn rejects_errors_inside_regions_and_names_the_inner_value() {
    let program = recurrence(|r| {
        let node = r.body.results[0].node;
        r.body.dag[node].results[0].dtype = I;
    });
    let error = verify(&program).unwrap_err();
    // The recurrence has %1, its one node %2.
    assert_eq!(error.message, "result of a step 0 is i64[B], expected f32[B]");
    let program = recurrence(|r| {
        let node = r.body.results[0].node;
        let Op::Index(index) = &mut r.body.dag[node].op else { unreachable!() };
        index.body = ExprId(50);
    });
    assert_eq!(verify(&program).unwrap_err().node.as_deref(), Some("%2"));
}

fn region(edit: impl FnOnce(&mut Region)) -> Program {
    let mut f = Fixture::new();
    let x = f.input("x", F, &[sym("B"), sym("D")]);
    f.vars = 1;
    let mut body = Graph::new();
    let xs = body.add_arg(ty(F, &[sym("B"), sym("D")]), span(), None);
    let slice = map(axes(&[("d", sym("D"))]), |e| {
        let (b, d) = (e.add(Expr::Var(VarId(0)), I), e.index(0));
        read(e, 0, F, &[b, d], None)
    });
    let slice = body.add_index(slice, vec![sym("D")], &[xs], span(), None);
    body.results = vec![slice];
    let mut region = Region {
        kind: RegionKind::Rows,
        axes: axes(&[("b", sym("B"))]),
        vars: vec![VarId(0)],
        body,
        places: vec![vec![Place::Loop(0), Place::Slice(0)]],
    };
    edit(&mut region);
    let y = f.op(Op::Region(Box::new(region)), vec![ty(F, &[sym("B"), sym("D")])], &[x]);
    f.program(&y)
}

#[test]
fn rejects_regions_that_do_not_match() {
    assert_eq!(verify(&region(|_| {})), Ok(()));
    rejects(&region(|r| r.vars.clear()), "a region of 1 axes has 0 positions");
    rejects(&region(|r| r.places[0].truncate(1)), "not every loop and every axis");
    rejects(&region(|r| r.places[0][1] = Place::Slice(1)), "Slice(1) does not exist");
    rejects(&region(|r| r.places.clear()), "has 0 places");
    rejects(&region(|r| r.axes[0].extent = k(2)), "2*D points make up B*D elements");
}
