//! The table of bases: the random variables that forms are made of, and how they hang together.
//!
//! A base knows its moments and what it depends on. Two bases are *independent* where they depend on
//! nothing in common. They are *uncorrelated* where one is linear in weights with mean zero that the
//! other does not depend on: then the one changes its sign with the weights and the other does not.
//! For wide layers they are also nearly independent, which is assumed, and noted, where it is needed.
//! What is neither is *dependent*, and no moment of both together is known.

use super::coord::{Atom, Coord};
use super::form::{BaseId, Form, Variable};
use super::fun::{Fun, Funs};
use super::moments::{Axes, Moments};
use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::rc::Rc;
use std::sync::Arc;

/// What had to be assumed for a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Notes {
    /// That what a function is applied to is normal.
    pub normal: bool,
    /// That factors which are uncorrelated are independent.
    pub independent: bool,
    /// That what a recurrence's state is multiplied by, and biases, are independent of it, as if drawn
    /// anew each step.
    pub steps: bool,
    /// That rows gathered by different positions are different ones.
    pub gathered: bool,
}

impl Notes {
    /// What either assumes.
    #[must_use]
    pub fn or(self, other: Notes) -> Notes {
        Notes {
            normal: self.normal || other.normal,
            independent: self.independent || other.independent,
            steps: self.steps || other.steps,
            gathered: self.gathered || other.gathered,
        }
    }
}

/// Why a moment is not known.
pub(super) type Why = Arc<str>;

/// A part of an input or weight: which, and from where to where along each axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Source {
    pub leaf: u32,
    pub part: Vec<(i64, i64)>,
    /// Where rows are gathered: by which data, and from where to where those are read. Different
    /// positions of the same data count as different rows.
    pub rows: Vec<Gathered>,
}

/// Data that gather, and the part of them that is read.
type Gathered = (u32, Vec<(i64, i64)>);

impl Source {
    fn overlaps(&self, other: &Source) -> bool {
        let meet = |((a, b), (c, d)): (&(i64, i64), &(i64, i64))| a <= d && c <= b;
        let overlap = |a: &[(i64, i64)], b: &[(i64, i64)]| a.iter().zip(b).all(meet);
        let same_rows = |(data, part): &Gathered| {
            let theirs = other.rows.iter().filter(|(other, _)| other == data);
            theirs.fold(true, |same, (_, other)| same && overlap(part, other))
        };
        self.leaf == other.leaf && overlap(&self.part, &other.part) && self.rows.iter().all(same_rows)
    }
}

impl Source {
    /// What holds both, of one leaf.
    fn hull(&self, other: &Source) -> Source {
        let hull = |a: &[(i64, i64)], b: &[(i64, i64)]| -> Vec<(i64, i64)> {
            a.iter().zip(b).map(|(a, b)| (a.0.min(b.0), a.1.max(b.1))).collect()
        };
        let data = |rows: &[Gathered]| rows.iter().map(|(data, _)| *data).collect::<Vec<_>>();
        let rows = if data(&self.rows) == data(&other.rows) {
            self.rows.iter().zip(&other.rows).map(|((data, a), (_, b))| (*data, hull(a, b))).collect()
        } else {
            Vec::new()
        };
        Source { leaf: self.leaf, part: hull(&self.part, &other.part), rows }
    }
}

/// What a base depends on; few parts of each leaf.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Sources(BTreeMap<u32, Vec<Source>>);

/// Parts of one leaf that are told apart.
const MAX_PARTS: usize = 12;

impl Sources {
    pub fn add(&mut self, source: &Source) {
        let parts = self.0.entry(source.leaf).or_default();
        if parts.contains(source) {
            return;
        }
        parts.push(source.clone());
        if parts.len() > MAX_PARTS {
            let hull = parts.iter().skip(1).fold(parts[0].clone(), |hull, next| hull.hull(next));
            *parts = vec![hull];
        }
    }

    pub fn join(&mut self, other: &Sources) {
        other.0.values().flatten().for_each(|source| self.add(source));
    }

    /// Those for which this holds.
    pub fn only(&self, keep: impl Fn(u32) -> bool) -> Sources {
        Sources(self.0.iter().filter(|(leaf, _)| keep(**leaf)).map(|(l, s)| (*l, s.clone())).collect())
    }

    /// The leaves.
    pub fn leaves(&self) -> impl Iterator<Item = u32> + '_ {
        self.0.keys().copied()
    }

    /// Whether there are some for which this does not hold.
    pub fn have_others(&self, of: impl Fn(u32) -> bool) -> bool {
        self.0.keys().any(|leaf| !of(*leaf))
    }

    pub fn has_leaf(&self, leaf: u32) -> bool {
        self.0.contains_key(&leaf)
    }

    fn have(&self, source: &Source) -> bool {
        self.0.get(&source.leaf).is_some_and(|parts| parts.iter().any(|part| part.overlaps(source)))
    }

    fn meet(&self, other: &Sources) -> bool {
        self.0.values().flatten().any(|source| other.have(source))
    }
}

/// What a base is.
#[derive(Clone, Debug)]
pub(super) enum Kind {
    /// An input or a weight.
    Leaf,
    /// The state that a step of a recurrence begins with.
    State,
    /// Numbers that nothing random decides.
    Numbers(Arc<[f64]>),
    /// The sum of a form over the axes from `kept` on; `inner` are the sizes of all its axes.
    Sum { form: Form, kept: usize, inner: Vec<i64> },
    /// The greatest or least of a form over some axes.
    Extreme,
    /// A function of a form with more variables than one.
    Of { form: Form, f: Fun },
    /// A softmax.
    Softmax,
    /// A sequence along an axis, of which each entry is a form without that axis.
    Steps { axis: usize, entries: Vec<Form> },
    /// Not known.
    Unknown,
}

/// A row of the table.
#[derive(Clone, Debug)]
pub(super) struct Base {
    pub sizes: Vec<i64>,
    pub moments: Moments,
    pub kind: Kind,
    pub sources: Sources,
    /// Weights and inputs with mean zero in which it is linear.
    pub linear_in: Vec<Source>,
    /// Whether its elements are exactly normal, or a function of it needs no such assumption.
    pub normal: bool,
    /// Whether the squares of its elements have a fixed sum, or nearly so.
    pub normed: bool,
    pub notes: Notes,
    /// Why the moments are not known, where they are not.
    pub why: Option<Why>,
}

impl Base {
    /// The input or weight that it is.
    pub fn only_leaf(&self) -> Option<u32> {
        matches!(self.kind, Kind::Leaf).then(|| self.sources.0.keys().next().copied()).flatten()
    }
}

/// How two variables hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Relation {
    Independent,
    Uncorrelated,
    /// Elements of one base with a covariance that is known.
    Correlated,
    Dependent,
}

/// What a part of a base hangs on.
struct Reached {
    sources: Sources,
    linear_in: Vec<Source>,
}

/// Relations looked at for one question.
const MAX_LOOKS: usize = 20_000;

/// What a base is known under: its kind, its form and its sizes.
pub(super) type Key = (&'static str, Vec<(super::form::Product, u64)>, Vec<i64>, u64);

/// The bases, and what was computed of them.
pub(super) struct World {
    pub funs: Funs,
    /// Whether only forms are asked for, and no moments.
    pub symbolic: bool,
    bases: Vec<Base>,
    interned: HashMap<Key, BaseId>,
    expansions: HashMap<(Fun, u64, u64), Arc<[f64]>>,
    /// Tables of numbers, by their sizes and bits.
    pub(super) tables: HashMap<(Vec<i64>, Vec<u64>), BaseId>,
    /// What parts of bases hang on.
    reached: RefCell<HashMap<(BaseId, Vec<(i64, i64)>, Vec<Gathered>), Rc<Reached>>>,
    /// Parts of sequences.
    pub(super) parts: HashMap<Key, BaseId>,
    /// Raw moments of products of two tables.
    pub(super) crossings: HashMap<(Variable, Variable, Vec<i64>), Arc<Moments>>,
}

impl World {
    pub fn new(symbolic: bool) -> Self {
        World {
            funs: Funs::new(),
            symbolic,
            bases: Vec::new(),
            interned: HashMap::new(),
            expansions: HashMap::new(),
            tables: HashMap::new(),
            reached: RefCell::default(),
            parts: HashMap::new(),
            crossings: HashMap::new(),
        }
    }

    pub fn base(&self, id: BaseId) -> &Base {
        &self.bases[id.0 as usize]
    }

    pub fn add(&mut self, base: Base) -> BaseId {
        self.bases.push(base);
        BaseId(self.bases.len() as u32 - 1)
    }

    /// A base by its key, made at the first asking.
    pub fn interned(&mut self, key: Key, make: impl FnOnce(&mut World) -> Base) -> BaseId {
        if let Some(known) = self.interned.get(&key) {
            return *known;
        }
        let base = make(self);
        let id = self.add(base);
        self.interned.insert(key, id);
        id
    }

    /// The key of a form.
    pub fn key(kind: &'static str, form: &Form, sizes: &[i64], more: u64) -> Key {
        let terms = form.terms.iter().map(|(product, c)| (product.clone(), c.to_bits()));
        (kind, terms.collect(), sizes.to_vec(), more)
    }

    /// Something of which nothing is known.
    pub fn unknown(&mut self, why: &str) -> Form {
        let base = self.add(Base {
            sizes: Vec::new(),
            moments: Moments::unknown(0),
            kind: Kind::Unknown,
            sources: Sources::default(),
            linear_in: Vec::new(),
            normal: false,
            normed: false,
            notes: Notes::default(),
            why: Some(why.into()),
        });
        Form::of(Variable { base, at: Vec::new() })
    }

    /// The Hermite expansion of a function of an element of a base.
    pub fn expansion(&mut self, f: Fun, mean: f64, variance: f64) -> Arc<[f64]> {
        let funs = &self.funs;
        let known = self.expansions.entry((f, mean.to_bits(), variance.to_bits()));
        known.or_insert_with(|| super::normal::expansion(funs, f, mean, variance).into()).clone()
    }

    pub fn is_numbers(&self, variable: &Variable) -> bool {
        matches!(self.base(variable.base).kind, Kind::Numbers(_))
    }

    /// Which axes of the base two of its elements differ along, where the points they are read at
    /// differ along `differ`.
    pub fn apart(&self, v: &Variable, w: &Variable, differ: Axes) -> Axes {
        let sizes = &self.base(v.base).sizes;
        let axes = v.at.iter().zip(&w.at).zip(sizes).enumerate();
        let differing =
            axes.filter(|(_, ((a, b), size))| **size != 1 && (a != b || (a.axes() | b.axes()) & differ != 0));
        differing.fold(0, |set, (axis, _)| set | 1 << axis)
    }

    /// The part of a leaf that a variable runs over.
    fn part(&self, v: &Variable, sizes: &[i64]) -> Vec<(i64, i64)> {
        let base = self.base(v.base);
        let range = |(c, size): (&Coord, &i64)| {
            let whole = (0, size - 1);
            c.range(sizes).map_or(whole, |(low, high)| (low.max(0), high.min(whole.1)))
        };
        v.at.iter().zip(&base.sizes).map(range).collect()
    }

    /// The rows that a variable gathers.
    fn rows(&self, v: &Variable, sizes: &[i64]) -> Vec<Gathered> {
        let gathered = v.at.iter().filter_map(|c| match &c.terms[..] {
            [(Atom::Data(data, index), 1)] if c.offset == 0 => {
                let ranges: Option<Vec<(i64, i64)>> = index.iter().map(|c| c.range(sizes)).collect();
                Some((*data, ranges?))
            }
            _ => None,
        });
        gathered.collect()
    }

    /// The weights that sums among the bases from `first` on multiply: by what is no part of a
    /// recurrence's state, and by what is.
    pub fn multiplied_weights(
        &self,
        first: usize,
        is_weight: impl Fn(u32) -> bool,
        recurrence: u32,
    ) -> (BTreeSet<u32>, BTreeSet<u32>) {
        let (mut fed, mut recurrent) = (BTreeSet::new(), BTreeSet::new());
        for base in &self.bases[first..] {
            let Kind::Sum { form, inner, .. } = &base.kind else { continue };
            for (product, _) in &form.terms {
                let (weights, others): (Vec<&Variable>, Vec<&Variable>) = product
                    .iter()
                    .map(|(v, _)| v)
                    .partition(|v| self.base(v.base).only_leaf().is_some_and(&is_weight));
                let of_state = others.iter().any(|v| self.reached(v, inner).sources.has_leaf(recurrence));
                let found = if of_state { &mut recurrent } else { &mut fed };
                found.extend(weights.iter().filter_map(|v| self.base(v.base).only_leaf()));
            }
        }
        (fed, recurrent)
    }

    /// A state of which only is known that it is one.
    pub fn blank_state(&mut self, sizes: &[i64], recurrence: u32) -> Form {
        let mut sources = Sources::default();
        sources.add(&Source { leaf: recurrence, part: Vec::new(), rows: Vec::new() });
        let base = self.add(Base {
            sizes: sizes.to_vec(),
            moments: Moments::independent(0.0, 1.0, sizes.len()),
            kind: Kind::State,
            sources,
            linear_in: Vec::new(),
            normal: false,
            normed: false,
            notes: Notes::default(),
            why: None,
        });
        Form::of(Variable { base, at: Coord::identity(sizes.len()) })
    }

    /// How many bases there are.
    pub fn len(&self) -> usize {
        self.bases.len()
    }

    /// What a variable depends on, and the weights and inputs in which it is linear. Of a sum or
    /// function that is read in part only, those of that part.
    fn reached(&self, v: &Variable, sizes: &[i64]) -> Rc<Reached> {
        let base = self.base(v.base);
        let part = self.part(v, sizes);
        let key = (v.base, part, self.rows(v, sizes));
        if let Some(known) = self.reached.borrow().get(&key) {
            return known.clone();
        }
        let is_whole = key.1.iter().zip(&base.sizes).all(|((low, high), size)| high - low + 1 >= *size);
        let own = Reached { sources: base.sources.clone(), linear_in: base.linear_in.clone() };
        let reached = match &base.kind {
            Kind::Leaf => {
                let mut sources = Sources::default();
                for source in base.sources.0.values().flatten() {
                    sources.add(&Source { leaf: source.leaf, part: key.1.clone(), rows: key.2.clone() });
                }
                let linear_in = sources.0.values().flatten().cloned().collect();
                Reached { sources, linear_in }
            }
            _ if is_whole => own,
            Kind::Sum { form, inner, .. } => self.narrowed(form, inner, &key.1, own),
            Kind::Of { form, .. } => self.narrowed(form, &base.sizes, &key.1, own),
            _ => own,
        };
        let reached = Rc::new(reached);
        self.reached.borrow_mut().insert(key, reached.clone());
        reached
    }

    /// What is reached by a part of a base with a form.
    fn narrowed(&self, form: &Form, inner: &[i64], part: &[(i64, i64)], own: Reached) -> Reached {
        let (mut at, mut sizes) = (Coord::identity(inner.len()), inner.to_vec());
        for (k, (low, high)) in part.iter().enumerate() {
            at[k].offset = *low;
            sizes[k] = (high - low + 1).max(1);
        }
        let mut sources = Sources::default();
        for variable in form.variables() {
            sources.join(&self.reached(&variable.read_at(&at, &sizes), &sizes).sources);
        }
        let is_linear = !own.linear_in.is_empty();
        let linear_in = if is_linear { self.linear_where(form, &at, &sizes) } else { Vec::new() };
        Reached { sources, linear_in }
    }

    /// What a variable depends on.
    pub fn sources(&self, v: &Variable, sizes: &[i64]) -> Sources {
        self.reached(v, sizes).sources.clone()
    }

    /// The weights, or inputs, in which a form is linear.
    pub fn form_linear_in(&self, form: &Form, sizes: &[i64]) -> Vec<Source> {
        self.linear_where(form, &Coord::identity(sizes.len()), sizes)
    }

    fn linear_where(&self, form: &Form, at: &[Coord], sizes: &[i64]) -> Vec<Source> {
        let of_term = |product: &super::form::Product| -> Vec<Source> {
            let plain = product.iter().filter(|(_, f)| *f == Fun::IDENTITY);
            plain.flat_map(|(v, _)| self.reached(&v.read_at(at, sizes), sizes).linear_in.clone()).collect()
        };
        let mut terms = form.terms.iter().map(|(product, _)| of_term(product));
        let first = terms.next().unwrap_or_default();
        terms.fold(first, |common, next| common.into_iter().filter(|s| next.contains(s)).collect())
    }

    /// What a form depends on, and what its bases assume.
    pub fn form_sources(&self, form: &Form, sizes: &[i64]) -> (Sources, Notes) {
        let mut all = (Sources::default(), Notes::default());
        for v in form.variables() {
            all.0.join(&self.reached(v, sizes).sources);
            all.1 = all.1.or(self.base(v.base).notes);
        }
        all
    }

    /// How two variables hang together, read at the same point.
    pub fn relation(&self, v: &Variable, w: &Variable, sizes: &[i64]) -> Relation {
        let mut looks = MAX_LOOKS;
        self.related(v, w, sizes, &mut looks)
    }

    fn related(&self, v: &Variable, w: &Variable, sizes: &[i64], looks: &mut usize) -> Relation {
        if *looks == 0 {
            return Relation::Dependent;
        }
        *looks -= 1;
        let (a, b) = (self.base(v.base), self.base(w.base));
        if v.base == w.base {
            let apart = self.apart(v, w, 0);
            return match a.moments.cov[apart as usize] {
                _ if matches!(a.kind, Kind::Numbers(_)) => Relation::Independent,
                _ if apart == 0 => Relation::Dependent,
                0.0 if matches!(a.kind, Kind::Leaf) => Relation::Independent,
                0.0 => Relation::Uncorrelated,
                cov if cov.is_nan() => Relation::Dependent,
                _ => Relation::Correlated,
            };
        }
        let (of_v, of_w) = (self.reached(v, sizes), self.reached(w, sizes));
        if !of_v.sources.meet(&of_w.sources) {
            return Relation::Independent;
        }
        let apart =
            |this: &Reached, other: &Reached| this.linear_in.iter().any(|source| !other.sources.have(source));
        if apart(&of_v, &of_w) || apart(&of_w, &of_v) {
            return Relation::Uncorrelated;
        }
        for (this, base, other) in [(v, a, w), (w, b, v)] {
            let Kind::Of { form, .. } = &base.kind else { continue };
            let parts = form.variables().into_iter().map(|part| part.read_at(&this.at, sizes));
            let relations = parts.map(|part| self.related(&part, other, sizes, looks));
            // A covariance with a part says nothing of one with a function of it.
            let worst = relations.max().unwrap_or(Relation::Independent);
            return if worst == Relation::Correlated { Relation::Dependent } else { worst };
        }
        Relation::Dependent
    }
}
