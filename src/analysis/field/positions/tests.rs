use super::*;
use crate::dim::Symbol;

fn axis() -> Positions {
    Positions::coord(Coord::Axis(0))
}

fn window(jump: i64, low: i64, high: i64) -> Positions {
    let taps = Positions::offsets(Offsets::run(low, high));
    axis().scale(&Dim::from(jump)).unwrap().sum(&taps).unwrap()
}

/// What a form says for one position, by its definition.
fn at(form: &Positions, p: i64) -> Vec<i64> {
    let Rows::Exact(rows) = &form.rows else { panic!("{form:?}") };
    let linear = form.linear.get(&Coord::Axis(0)).map_or(0, |c| c.as_const().unwrap());
    let (period, advance) = match &form.cycle {
        Some(cycle) => (cycle.period, cycle.advance.as_const().unwrap()),
        None => (1, 0),
    };
    let moved = linear * p + advance * p.div_euclid(period) + form.base.as_const().unwrap();
    rows[p.rem_euclid(period) as usize].iter().unwrap().map(|v| v + moved).collect()
}

fn through(outer: &Positions, inner: &Positions) -> Positions {
    outer.compose(&|_| Some(inner.clone()))
}

#[test]
fn chains_multiply_jumps_and_add_spans() {
    // Kernel 3, stride 2, padding 1, twice.
    let layer = window(2, -1, 1);
    let twice = through(&layer, &layer);
    assert_eq!(twice, window(4, -3, 3));
}

/// Composition is what it is set by set, also where quotients meet strides.
#[test]
fn composition_agrees_with_its_definition() {
    let up = |k: i64| axis().divided(k, false).unwrap();
    let forms = [
        axis(),
        window(2, -1, 1),
        window(3, 0, 0),
        up(2),
        up(3),
        through(&up(2), &window(3, -2, 1)),
        axis().divided(4, true).unwrap(),
        axis().scale(&Dim::from(-1)).unwrap(),
        through(&window(1, -3, 0), &up(4)),
        axis().sum(&Positions::constant(&Dim::ONE)).unwrap().divided_exactly(2).unwrap(),
    ];
    for outer in &forms {
        for inner in &forms {
            let both = through(outer, inner);
            for p in -7..20 {
                let mut want: Vec<i64> = at(inner, p).into_iter().flat_map(|q| at(outer, q)).collect();
                want.sort_unstable();
                want.dedup();
                assert_eq!(at(&both, p), want, "{outer:?} of {inner:?} at {p}");
            }
            if let Some(joined) = outer.join(inner) {
                for p in -7..20 {
                    let mut want = [at(outer, p), at(inner, p)].concat();
                    want.sort_unstable();
                    want.dedup();
                    assert_eq!(at(&joined, p), want, "{outer:?} or {inner:?} at {p}");
                }
            }
        }
    }
}

#[test]
fn a_transposed_convolution_touches_by_remainder() {
    // Stride 2, kernel 3, no padding: out = 2 i + u.
    let taps = Positions::offsets(Offsets::run(-2, 0));
    let form = axis().sum(&taps).unwrap().divided_exactly(2).unwrap();
    assert_eq!((at(&form, 4), at(&form, 5)), (vec![1, 2], vec![2]));
    // Dilation 2 with stride 2 reaches every other output only.
    let taps = Positions::offsets(Offsets::run(-2, 0).scale(2).unwrap());
    let form = axis().sum(&taps).unwrap().divided_exactly(2).unwrap();
    assert_eq!((at(&form, 4), at(&form, 5)), (vec![0, 1, 2], vec![]));
}

#[test]
fn splitting_and_merging_an_axis_is_nothing() {
    let (h, d) = (axis().divided(64, false).unwrap(), axis().divided(64, true).unwrap());
    let merged = h.scale(&Dim::from(64)).unwrap().sum(&d).unwrap();
    assert_eq!(merged, axis());
}

#[test]
fn open_ends_stay_open() {
    let up_to = Positions::from_to(None, Some(&axis())).unwrap();
    let shifted = through(&up_to, &window(1, -1, 1));
    assert_eq!(shifted, Positions::from_to(None, Some(&window(1, 1, 1))).unwrap());
    let halved = through(&up_to, &axis().divided(2, false).unwrap());
    assert_eq!(halved, Positions::from_to(None, Some(&axis().divided(2, false).unwrap())).unwrap());
    // Seen through a stride, an open end is still open.
    let seen = through(&window(2, 0, 1), &up_to);
    assert_eq!(seen, Positions::from_to(None, Some(&window(2, 1, 1))).unwrap());
    assert_eq!(up_to.join(&Positions::whole()), Some(Positions::whole()));
    assert_eq!(up_to.join(&window(1, -3, 0)), Some(up_to.clone()));
}

#[test]
fn growth_is_widened_to_the_end_it_grows_to() {
    let (old, new) = (window(1, -1, 0), window(1, -2, 0));
    assert_eq!(old.widened(&new), Positions::from_to(None, Some(&axis())).unwrap());
    assert_eq!(old.widened(&old), old);
    assert!(old.widened(&window(2, -1, 0)).notes.bound);
}

#[test]
fn formulas_may_be_ends() {
    let k = Dim::symbol(Symbol::new("K", 0));
    let taps = Positions::between(Some(Dim::ZERO), k.sub(&Dim::ONE).ok());
    let form = axis().sum(&taps).unwrap();
    let twice = through(&form, &form);
    let Rows::Hull(rows) = &twice.rows else { panic!("{twice:?}") };
    let hull = rows[0].clone().unwrap();
    assert_eq!(
        (hull.low.unwrap().to_string(), hull.high.unwrap().to_string()),
        ("0".into(), "2*K - 2".into())
    );
    assert_eq!(taps.clipped(&k), Positions::whole());
}
