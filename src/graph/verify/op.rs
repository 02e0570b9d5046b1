//! The invariants of each op.

use super::super::expr::{Expr, VarId};
use super::super::ir::{
    Axis, FuncId, Graph, Index, MatMul, Op, Pick, Place, Recur, Region, Role, Scan, Segment, TensorType,
    Transform, View,
};
use super::expr::{Uses, is_bool, over_iterate, uses_index};
use super::{Check, Verifier, arg_types, ensure, result_types};
use crate::dim::Dim;
use crate::dtype::DType;
use crate::ops::reduce::Reducer;
use crate::tensor::Tensor;
use petgraph::stable_graph::NodeIndex;

impl Verifier<'_> {
    pub(super) fn op(&mut self, graph: &Graph, id: NodeIndex, operands: &[&TensorType]) -> Check {
        let node = graph.node(id);
        let results = node.results.as_slice();
        match &node.op {
            Op::Arg(k) => {
                ensure!(operands.is_empty(), "an argument has operands");
                let listed = graph.args.get(*k as usize) == Some(&id);
                ensure!(listed, "argument {k} is not in the list of arguments");
                one(results).map(|_| ())
            }
            Op::Const(tensor) => {
                ensure!(operands.is_empty(), "a constant has operands");
                self.same_type("the constant", &tensor_type(tensor), one(results)?)
            }
            Op::Index(index) => self.index(index, operands, one(results)?),
            Op::Segment(segment) => self.segment(segment, operands, one(results)?),
            Op::MatMul(product) => self.matmul(product, operands, one(results)?),
            Op::Scan(scan) => self.scan(*scan, operands, one(results)?),
            Op::Transform(transform) => self.transform(transform, operands, one(results)?),
            Op::TopK(k) => self.top_k(k, operands, results),
            Op::Call(callee) => self.call(*callee, operands, results),
            Op::Recur(recur) => self.recur(recur, operands, results),
            Op::Region(region) => self.region(region, operands, results),
        }
    }

    fn index(&self, index: &Index, operands: &[&TensorType], result: &TensorType) -> Check {
        self.axes(&index.iterate)?;
        let reduced = index.reduce.as_ref().map_or(&[][..], |r| &r.axes);
        self.axes(reduced)?;
        let iterate = index.iterate.len();
        let uses = Uses { indices: iterate + reduced.len(), operands, accumulator: None };
        self.exprs(&index.exprs, &index.roots(), &uses)?;
        if let Some(guard) = index.guard {
            is_bool("the guard", &index.exprs, guard)?;
            over_iterate("the guard", &index.exprs, guard, iterate)?;
        }
        if let Some(reduce) = &index.reduce {
            let term = index.exprs.dtype(index.body);
            let name = reduce.reducer.name();
            ensure!(reduce.reducer.accepts(term), "`{name}` of {term}");
            if let Some(filter) = reduce.filter {
                is_bool("the filter", &index.exprs, filter)?;
            }
            if let Some(otherwise) = reduce.otherwise {
                over_iterate("`otherwise`", &index.exprs, otherwise, iterate)?;
                let (found, wanted) = (index.exprs.dtype(otherwise), index.result_dtype());
                ensure!(found == wanted, "`{name}` of {wanted} gives {found} over nothing");
            }
        }
        let dtype = index.result_dtype();
        ensure!(dtype == result.dtype, "an op of {dtype} has a result of {}", result.dtype);
        self.same_size(&index.iterate, &result.shape)
    }

    fn segment(&self, segment: &Segment, operands: &[&TensorType], result: &TensorType) -> Check {
        let Segment { index, axis, key } = segment;
        self.index(index, operands, result)?;
        let reduced = index.reduce.as_ref().ok_or("a segment without a reduction")?.axes.len();
        ensure!(*axis < index.iterate.len(), "a segment selects axis {axis} of {}", index.iterate.len());
        let uses = Uses { indices: index.iterate.len() + reduced, operands, accumulator: None };
        self.exprs(&index.exprs, &[*key], &uses)?;
        let dtype = index.exprs.dtype(*key);
        ensure!(dtype == DType::I64, "the key is {dtype}, not i64");
        ensure!(!uses_index(&index.exprs, *key, *axis), "the key uses the index that it selects");
        Ok(())
    }

    fn matmul(&self, product: &MatMul, operands: &[&TensorType], result: &TensorType) -> Check {
        self.axes(&product.iterate)?;
        self.axes(&product.contract)?;
        ensure!(operands.len() >= 2, "a product has {} operands", operands.len());
        for (k, operand) in operands.iter().take(2).enumerate() {
            ensure!(operand.dtype == DType::F32, "factor {k} of a product is {}", operand.dtype);
        }
        let (roles, axes) = (product.roles.len(), product.iterate.len());
        ensure!(roles == axes, "a product has {roles} roles for {axes} axes");
        self.view("left", &product.lhs, product, Role::N)?;
        self.view("right", &product.rhs, product, Role::M)?;
        if let Some(pick) = &product.pick {
            self.pick(pick, product, operands)?;
        }
        let mut dtype = DType::F32;
        if let Some(epilogue) = &product.epilogue {
            let uses = Uses { indices: axes, operands, accumulator: Some(DType::F32) };
            self.exprs(&epilogue.exprs, &[epilogue.body], &uses)?;
            let factor = |expr: &Expr| matches!(expr, Expr::Read(read) if read.port == 1);
            let reads_factor = epilogue.exprs.contain(&[epilogue.body], factor);
            ensure!(!reads_factor, "the epilogue reads a factor of its product");
            dtype = epilogue.exprs.dtype(epilogue.body);
        }
        ensure!(dtype == result.dtype, "a product of {dtype} has a result of {}", result.dtype);
        self.same_size(&product.iterate, &result.shape)
    }

    fn pick(&self, pick: &Pick, product: &MatMul, operands: &[&TensorType]) -> Check {
        let picks = operands.get(2).ok_or("a product picks by an operand that it has not")?;
        ensure!(picks.dtype == DType::I64, "a product picks by {}", picks.dtype);
        let (strides, axes) = (pick.at.iterate.len(), product.iterate.len());
        ensure!(strides == axes, "the picks have {strides} strides for {axes} axes");
        ensure!(pick.at.contract.is_empty(), "the picks walk a contracted axis");
        for (k, (role, stride)) in product.roles.iter().zip(&pick.at.iterate).enumerate() {
            ensure!(*role == Role::M || stride.is(0), "the picks walk axis {k}, which has role {role:?}");
        }
        self.offsets(&pick.at)?;
        self.dim(&pick.extent)?;
        self.dim(&pick.stride)
    }

    fn view(&self, side: &str, view: &View, product: &MatMul, absent: Role) -> Check {
        let (iterate, contract) = (view.iterate.len(), view.contract.len());
        ensure!(
            iterate == product.iterate.len() && contract == product.contract.len(),
            "the {side} view has {iterate} and {contract} strides for {} and {} axes",
            product.iterate.len(),
            product.contract.len()
        );
        for (k, (role, stride)) in product.roles.iter().zip(&view.iterate).enumerate() {
            ensure!(
                *role != absent || stride.is(0),
                "the {side} view walks axis {k}, which has role {role:?}"
            );
        }
        self.offsets(view)
    }

    /// Every number of a view is over sizes and positions that there are.
    fn offsets(&self, view: &View) -> Check {
        self.dim(&view.offset)?;
        for (var, stride) in &view.vars {
            ensure!(self.scope.contains(var), "position {} is used outside its region", var.0);
            self.dim(stride)?;
        }
        view.iterate.iter().chain(&view.contract).try_for_each(|stride| self.dim(stride))
    }

    fn transform(&self, transform: &Transform, operands: &[&TensorType], result: &TensorType) -> Check {
        let Transform { iterate, made, matrix, source, epilogue } = transform;
        self.axes(iterate)?;
        let axes = iterate.len();
        let operand = operands.first().ok_or("a transform of nothing")?;
        ensure!(operand.dtype == DType::F32, "a transform of {}", operand.dtype);
        let whole = matrix.columns > 0 && matrix.elements.len() % matrix.columns == 0;
        ensure!(whole, "a matrix of {} elements in {} columns", matrix.elements.len(), matrix.columns);
        ensure!(made[0] < made[1] && made[1] < axes, "a transform makes axes {made:?} of {axes}");
        let (strides, summed) = (source.iterate.len(), source.contract.len());
        ensure!(
            strides == axes && summed == 2,
            "a transform's view has {strides} and {summed} strides for {axes} and 2 axes"
        );
        for k in *made {
            let (extent, rows) = (&iterate[k].extent, matrix.rows().len());
            ensure!(extent.is(rows as i64), "a matrix of {rows} rows makes {extent} points");
            ensure!(source.iterate[k].is(0), "a transform reads along axis {k}, which it makes");
        }
        self.offsets(source)?;
        let mut dtype = DType::F32;
        if let Some(epilogue) = epilogue {
            let uses = Uses { indices: axes, operands, accumulator: Some(DType::F32) };
            self.exprs(&epilogue.exprs, &[epilogue.body], &uses)?;
            dtype = epilogue.exprs.dtype(epilogue.body);
        }
        ensure!(dtype == result.dtype, "a transform of {dtype} has a result of {}", result.dtype);
        self.same_size(iterate, &result.shape)
    }

    fn top_k(&self, k: &Dim, operands: &[&TensorType], results: &[TensorType]) -> Check {
        self.dim(k)?;
        let [operand] = operands else { return Err(format!("top_k of {} operands", operands.len())) };
        let Some((last, rows)) = operand.shape.split_last() else { return Err("top_k of a scalar".into()) };
        let numeric = operand.dtype.is_float() || operand.dtype.is_int();
        ensure!(numeric, "top_k of {}", operand.dtype);
        let too_few = last.sub(k).is_ok_and(|rest| rest.range().1.is_some_and(|high| high < 0));
        ensure!(!too_few, "top_k takes {k} of {last}");
        let shape: Vec<Dim> = rows.iter().chain([k]).cloned().collect();
        let expected = [TensorType::new(operand.dtype, shape.clone()), TensorType::new(DType::I64, shape)];
        self.types("result of top_k", results, &expected)
    }

    fn scan(&self, scan: Scan, operands: &[&TensorType], result: &TensorType) -> Check {
        let [operand] = operands else { return Err(format!("a scan of {} operands", operands.len())) };
        let name = scan.reducer.name();
        ensure!(
            scan.axis < operand.shape.len(),
            "a scan along axis {} of {}",
            scan.axis,
            operand.shape.len()
        );
        let extreme = matches!(scan.reducer, Reducer::ArgMax | Reducer::ArgMin);
        ensure!(!extreme && scan.reducer.accepts(operand.dtype), "a scan by `{name}` of {}", operand.dtype);
        self.same_type("the result of a scan", operand, result)
    }

    fn call(&self, callee: FuncId, operands: &[&TensorType], results: &[TensorType]) -> Check {
        let caller = self.function.unwrap_or(0);
        ensure!(
            (callee.0 as usize) < caller,
            "function {caller} calls {}, which does not precede it",
            callee.0
        );
        let callee = &self.program.function(callee).graph;
        self.types("argument of the call", &owned(operands), &arg_types(callee)?)?;
        self.types("result of the call", results, &result_types(callee)?)
    }

    fn recur(&mut self, recur: &Recur, operands: &[&TensorType], results: &[TensorType]) -> Check {
        self.dim(&recur.start)?;
        self.dim(&recur.extent)?;
        let inits: usize = recur.sequences.iter().map(|s| s.lags).sum();
        let wanted = recur.captures + inits;
        ensure!(operands.len() == wanted, "a recurrence has {} operands, not {wanted}", operands.len());
        let (n, sequences) = (results.len(), recur.sequences.len());
        ensure!(n == sequences, "a recurrence of {sequences} sequences has {n} results");
        let (captures, inits) = operands.split_at(recur.captures);
        let mut args = owned(captures);
        args.extend(results.iter().cloned());
        self.types("argument of the recurrence", &arg_types(&recur.body)?, &args)?;
        let mut slices = Vec::new();
        let mut inits = inits.iter();
        for (sequence, whole) in recur.sequences.iter().zip(results) {
            let name = &sequence.name;
            ensure!(sequence.axis < whole.shape.len(), "sequence `{name}` has no axis {}", sequence.axis);
            let mut slice = whole.clone();
            let time = slice.shape.remove(sequence.axis);
            let extended = recur.extent.add(&Dim::from(sequence.lags as i64)).map_err(|e| e.to_string())?;
            ensure!(self.same_dim(&time, &extended), "`{name}` has {time} positions, not {extended}");
            for init in inits.by_ref().take(sequence.lags) {
                self.same_type(&format!("an initial slice of `{name}`"), init, &slice)?;
            }
            slices.push(slice);
        }
        self.types("result of a step", &result_types(&recur.body)?, &slices)?;
        self.body(&recur.body, &[recur.var])
    }

    fn region(&mut self, region: &Region, operands: &[&TensorType], results: &[TensorType]) -> Check {
        self.axes(&region.axes)?;
        let (vars, axes) = (region.vars.len(), region.axes.len());
        ensure!(vars == axes, "a region of {axes} axes has {vars} positions");
        self.types("argument of the region", &arg_types(&region.body)?, &owned(operands))?;
        let slices = result_types(&region.body)?;
        let (n, placed) = (slices.len(), region.places.len());
        ensure!(
            n == results.len() && n == placed,
            "a region of {n} slices has {placed} places, {} results",
            results.len()
        );
        for (k, (slice, places)) in slices.iter().zip(&region.places).enumerate() {
            let whole = whole_axes(region, slice, places).map_err(|m| format!("result {k}: {m}"))?;
            ensure!(
                slice.dtype == results[k].dtype,
                "result {k} is {}, its slices {}",
                results[k].dtype,
                slice.dtype
            );
            self.same_size(&whole, &results[k].shape)?;
        }
        self.body(&region.body, &region.vars)
    }

    /// Checks the graph of a region in which `vars` are defined.
    fn body(&mut self, body: &Graph, vars: &[VarId]) -> Check {
        for var in vars {
            ensure!(var.0 < self.program.vars, "position {} was never handed out", var.0);
            ensure!(self.vars.insert(*var), "position {} is defined twice", var.0);
        }
        self.scope.extend(vars);
        self.graph(body)?;
        self.scope.truncate(self.scope.len() - vars.len());
        Ok(())
    }

    fn axes(&self, axes: &[Axis]) -> Check {
        axes.iter().try_for_each(|axis| self.dim(&axis.extent))
    }

    fn same_size(&self, axes: &[Axis], shape: &[Dim]) -> Check {
        let product = |dims: &mut dyn Iterator<Item = &Dim>| Dim::product(dims).map_err(|e| e.to_string());
        let points = product(&mut axes.iter().map(|axis| &axis.extent))?;
        let size = product(&mut shape.iter())?;
        ensure!(self.same_dim(&points, &size), "{points} points make up {size} elements");
        Ok(())
    }
}

/// The axes of a region's whole result.
fn whole_axes(region: &Region, slice: &TensorType, places: &[Place]) -> Check<Vec<Axis>> {
    let mut loops = vec![0; region.axes.len()];
    let mut slices = vec![0; slice.shape.len()];
    let mut axes = Vec::new();
    for place in places {
        let (slot, axis) = match place {
            Place::Loop(k) => (loops.get_mut(*k), region.axes.get(*k).cloned()),
            Place::Slice(k) => (slices.get_mut(*k), slice.shape.get(*k).map(|d| Axis::new(d.clone(), ""))),
        };
        let (Some(slot), Some(axis)) = (slot, axis) else { return Err(format!("{place:?} does not exist")) };
        *slot += 1;
        axes.push(axis);
    }
    let once = loops.iter().chain(&slices).all(|n| *n == 1);
    ensure!(once, "not every loop and every axis of the slice has one place");
    Ok(axes)
}

fn one(results: &[TensorType]) -> Check<&TensorType> {
    match results {
        [result] => Ok(result),
        _ => Err(format!("the op has {} results, not 1", results.len())),
    }
}

fn owned(types: &[&TensorType]) -> Vec<TensorType> {
    types.iter().map(|ty| (*ty).clone()).collect()
}

fn tensor_type(tensor: &Tensor) -> TensorType {
    TensorType::new(tensor.dtype(), tensor.shape().iter().map(|n| Dim::from(*n as i64)).collect())
}
