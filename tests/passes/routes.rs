//! `recognise-routes`, and that columns of what rows pick come last.

use crate::harness::{Trace, index_count, module, product_count, products, trace};
use mdlc::dim::Dim;
use mdlc::graph::ir::{Program, Role};

const T: &[&[(&str, i64)]] = &[&[("T", 5)], &[("T", 1)], &[("T", 0)]];

/// One definition over tokens `t` and picks `j` among six experts.
fn routed(definition: &str) -> Trace {
    let text = module(
        "param w: [6, 12, 8] = normal(1.0)
         param v: [6, 8, 12] = normal(1.0)
         param b: [6, 12] = normal(1.0)
         param small: [6, 4, 8] = normal(1.0)
         param heads: [6, 3, 12, 8] = normal(1.0)",
        &format!(
            "(x: [T, 8], score: [T, 6], ids: i64[T], z: [T, 3, 8]) {{
                let (kept, e) = top_k(score, 2)
                let {definition}
                y
            }}"
        ),
    );
    trace(&text, T)
}

fn picked(program: &Program) -> usize {
    products(program).iter().filter(|product| product.pick.is_some()).count()
}

#[test]
fn matrices_picked_by_rows_make_products() {
    for definition in [
        "y[t, j, f] = sum[d] w[e[t, j], f, d] * x[t, d]",
        "y[t, j, f] = sum[d] x[t, d] * w[e[t, j], f, d]",
        "y[t, j, f] = sum[d] v[e[t, j], d, f] * x[t, d]",
        "y[f, t, j] = sum[d] w[e[t, j], f, d] * x[t, d]",
        "y[t, f] = sum[d] w[e[t, 0], f, d] * x[t, d]",
        "y[t, u: 3, f] = sum[d] w[e[t, 0], f, d] * z[t, u, d]",
        "y[t, j, h: 3, f] = sum[d] heads[e[t, j], h, f, d] * z[t, h, d]",
        "y[t, j, f, h: 3] = sum[d] heads[e[t, j], h, f, d] * x[t, d]",
        "y[t, j, f] = kept[t, j] * sum[d] w[e[t, j], f, d] * x[t, d]",
        // Picks that are computed.
        "y[t, f] = sum[d] w[ids[t] % 6, f, d] * x[t, d]",
        "y[t, f] = sum[d] w[min(max(ids[t], 0), 5), f, d] * x[t, d]",
        "y[t, j, f] = sum[d] w[(e[t, j] + 1) % 6, f, d] * x[t, d]",
    ] {
        routed(definition).expect_change("recognise-routes", picked, 0, 1);
    }
}

#[test]
fn everything_else_stays_as_it_is() {
    for definition in [
        // Nothing is picked.
        "y[t, f] = sum[d] w[0, f, d] * x[t, d]",
        "y[t, f] = sum[d] w[t % 6, f, d] * x[t, d]",
        // A row of a table is no matrix, and a small matrix not worth it.
        "y[t, j] = sum[d] w[e[t, j], 0, d] * x[t, d]",
        "y[t, j, f] = sum[d] small[e[t, j], f, d] * x[t, d]",
        // Picks along columns, along terms, or by two numbers.
        "y[t, f: 12] = sum[d] w[min(max(ids[t], 0), 5), min(e[t, 0], 2) + f // 4, d] * x[t, d]",
        "y[t, f: 12] = sum[d: 8] w[(ids[t] + d) % 6, f, d] * x[t, d]",
        "y[t, f: 12] = sum[d] w[e[t, f % 2], f, d] * x[t, d]",
        // Three factors, a filter, another reducer.
        "y[t, j, f] = sum[d] w[e[t, j], f, d] * b[e[t, j], f] * x[t, d] * z[t, 0, d]",
        "y[t, j, f] = sum[d where d != 3] w[e[t, j], f, d] * x[t, d]",
        "y[t, j, f] = max[d] w[e[t, j], f, d] * x[t, d]",
        "y[t, f: 12] = sum[d] w[ids[t], f, d else 0.0] * x[t, d]",
    ] {
        routed(definition).expect("recognise-routes", picked, 0);
    }
}

#[test]
fn columns_come_last_where_nobody_sees() {
    let found = routed("y[t, f] = sum[j] kept[t, j] * sum[d] w[e[t, j], f, d] * x[t, d]");
    found.expect("recognise-routes", picked, 1);
    let all = products(found.last());
    let product = all.iter().find(|product| product.pick.is_some()).unwrap();
    assert_eq!(product.roles, [Role::M, Role::M, Role::N]);
    // The sum over the picks is a product too.
    assert_eq!(product_count(found.last()), 2);
}

#[test]
fn two_layers_of_experts_are_two_products_with_their_epilogues() {
    let found = routed(
        "h[t, j, f] = relu(sum[d] w[e[t, j], f, d] * x[t, d])
         let y[t, d] = sum[j] kept[t, j] * sum[f] v[e[t, j], d, f] * h[t, j, f]",
    );
    assert_eq!(picked(found.last()), 2);
    assert_eq!(product_count(found.last()), 3);
    // Two weights are packed, and that is all.
    assert_eq!(index_count(found.last()), 2);
}

#[test]
fn the_weights_of_all_experts_are_packed_with_columns_behind_terms() {
    let found = routed("y[t, j, f] = sum[d] w[e[t, j], f, d] * x[t, d]");
    let product = products(found.after("pack"))[0];
    let pick = product.pick.as_ref().unwrap();
    let rhs: Vec<Option<i64>> = product.rhs.iterate.iter().map(Dim::as_const).collect();
    assert_eq!(rhs, [Some(0), Some(0), Some(1)]);
    assert_eq!((product.rhs.contract[0].as_const(), pick.stride.as_const()), (Some(12), Some(96)));
}
