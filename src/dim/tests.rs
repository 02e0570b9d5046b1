use super::*;

fn sym(name: &str, id: u32) -> Dim {
    Dim::symbol(Symbol::new(name, id))
}

fn k(value: i64) -> Dim {
    Dim::from(value)
}

#[test]
fn polynomials_have_one_form() {
    let (b, t) = (sym("B", 0), sym("T", 1));
    let left = b.add(&t).unwrap().mul(&b.sub(&t).unwrap()).unwrap();
    let right = b.mul(&b).unwrap().sub(&t.mul(&t).unwrap()).unwrap();
    assert_eq!(left, right);
    assert_eq!(b.sub(&b).unwrap(), Dim::ZERO);
}

#[test]
fn division_splits_exact_terms() {
    let (b, d) = (sym("B", 0), sym("D", 1));
    let six = b.mul(&k(6)).unwrap().add(&k(7)).unwrap();
    assert_eq!(six.floor_div(&k(3)).unwrap(), b.mul(&k(2)).unwrap().add(&k(2)).unwrap());
    assert_eq!(six.modulo(&k(3)).unwrap(), k(1));
    assert_eq!(b.mul(&d).unwrap().floor_div(&d).unwrap(), b);
    let sum = b.add(&k(2)).unwrap();
    assert_eq!(sum.mul(&d).unwrap().exact_div(&sum), Some(d));
    assert_eq!(b.floor_div(&Dim::ZERO), Err(DimError::DivisionByZero));
}

#[test]
fn nested_divisions_merge() {
    let h = sym("H", 0);
    let twice = h.floor_div(&k(2)).unwrap().floor_div(&k(2)).unwrap();
    assert_eq!(twice, h.floor_div(&k(4)).unwrap());
}

#[test]
fn sizes_halved_with_padding_stay_one_quotient() {
    let h = sym("H", 0);
    let halved = |d: &Dim| d.add(&k(1)).unwrap().floor_div(&k(2)).unwrap();
    let eighth = halved(&halved(&halved(&h)));
    assert_eq!(eighth.to_string(), "((H + 7)//8)");
    let shrunk = h.sub(&k(3)).unwrap().floor_div(&k(2)).unwrap().sub(&k(2)).unwrap();
    let third = shrunk.floor_div(&k(3)).unwrap();
    for size in 0..40 {
        let steps = (0..3).fold(size, |n, _| (n + 1i64).div_euclid(2));
        assert_eq!(eighth.eval(&|_| Some(size)), Ok(steps));
        let expected = ((size - 3i64).div_euclid(2) - 2).div_euclid(3);
        assert_eq!(third.eval(&|_| Some(size)), Ok(expected));
    }
}

#[test]
fn floored_like_the_language() {
    for a in -9i64..=9 {
        for b in [-4i64, -3, -1, 1, 3, 4] {
            let (q, r) = divide::floored(a, b).unwrap();
            assert_eq!(a, q * b + r);
            assert!(r == 0 || (r < 0) == (b < 0) && r.abs() < b.abs());
        }
    }
    assert_eq!(divide::floored(i64::MIN, -1), None);
}

#[test]
fn equality_is_decided_where_it_can_be() {
    let (t, s) = (sym("T", 0), sym("S", 1));
    assert_eq!(t.compare(&t).unwrap(), Truth::Yes);
    assert_eq!(t.compare(&t.add(&k(1)).unwrap()).unwrap(), Truth::No);
    assert_eq!(t.compare(&s).unwrap(), Truth::Unknown);
}

#[test]
fn overflow_is_an_error() {
    assert_eq!(k(i64::MAX).add(&k(1)), Err(DimError::Overflow));
    assert_eq!(k(i64::MAX).mul(&k(2)), Err(DimError::Overflow));
    let t = sym("T", 0).mul(&k(i64::MAX)).unwrap();
    assert_eq!(t.eval(&|_| Some(3)), Err(DimError::Overflow));
}

#[test]
fn one_unknown_is_solved() {
    let (f, d) = (Symbol::new("F", 0), sym("D", 1));
    let formula = Dim::symbol(f.clone()).mul(&k(2)).unwrap().add(&k(1)).unwrap();
    let value = d.mul(&k(4)).unwrap().add(&k(1)).unwrap();
    assert_eq!(solve_for(&formula, &f, &value), Some(d.mul(&k(2)).unwrap()));
    assert_eq!(solve_for(&formula, &f, &d), None);
}

#[test]
fn prints_as_written() {
    let (l, p) = (sym("L", 0), k(2));
    let out = l.add(&p.mul(&k(2)).unwrap()).unwrap().sub(&k(3)).unwrap().floor_div(&k(2)).unwrap();
    assert_eq!(out.to_string(), "((L + 1)//2)");
    assert_eq!(l.neg().unwrap().add(&k(3)).unwrap().to_string(), "-L + 3");
}

#[test]
fn minimum_and_maximum_are_decided_by_range() {
    let t = sym("T", 0);
    let longer = t.add(&k(2)).unwrap();
    assert_eq!(t.minimum(&longer).unwrap(), t);
    assert_eq!(t.maximum(&longer).unwrap(), longer);
    assert_eq!(t.maximum(&Dim::ZERO).unwrap(), t);
    assert_eq!(t.minimum(&k(4)).unwrap(), k(4).minimum(&t).unwrap());
}

#[test]
fn constants_divide_to_constants_whatever_their_signs() {
    for (a, b, quotient, rest) in [(-1, -2, 0, -1), (7, -2, -4, -1), (-7, 2, -4, 1), (7, 2, 3, 1)] {
        assert_eq!(k(a).floor_div(&k(b)), Ok(k(quotient)));
        assert_eq!(k(a).modulo(&k(b)), Ok(k(rest)));
    }
}
