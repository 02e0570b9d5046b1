//! Patterns and maps: what matches, what is refused, and that restoring undoes renaming.

use super::pattern::{Kind, PatternError};
use super::*;
use proptest::prelude::*;

fn rule(from: &str, to: &str) -> Result<NameMap, RenameError> {
    NameMap::parse("rules.toml", &format!("[[rule]]\nfrom = '{from}'\nto = '{to}'\n"))
}

fn renamed(map: &NameMap, name: &str) -> String {
    map.rename([name]).unwrap().new_name(name).unwrap().to_string()
}

fn faults(result: Result<impl Sized, RenameError>) -> Vec<RenameFault> {
    match result {
        Err(RenameError::Map { faults, .. }) => faults,
        Err(RenameError::File(error)) => panic!("{error}"),
        Ok(_) => panic!("accepted"),
    }
}

fn problem(from: &str) -> PatternError {
    match faults(rule(from, from)).remove(0) {
        RenameFault::Pattern { problem, .. } => problem,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_word_stays_within_its_dots() {
    let map = rule("h.{i}.{p}", "layers.{i}.{p}").unwrap();
    assert_eq!(renamed(&map, "h.3.weight"), "layers.3.weight");
    // Two components, none, and a slash: not of the form.
    for other in ["h.3.ln.weight", "h..weight", "h.3.", "h.3.a/b", "xh.3.weight", "h.3.weight.x"] {
        assert_eq!(renamed(&map, other), other);
    }
}

#[test]
fn numbers_are_canonical_and_may_be_shifted() {
    let map = rule("block_{i + 1}/{p}", "blocks.{i}.{p}").unwrap();
    assert_eq!(renamed(&map, "block_1/kernel"), "blocks.0.kernel");
    assert_eq!(renamed(&map, "block_12/kernel"), "blocks.11.kernel");
    // Nothing would lead back to these.
    for other in ["block_0/kernel", "block_01/kernel", "block_x/kernel", "block_99999999999999999999/kernel"]
    {
        assert_eq!(renamed(&map, other), other);
    }
    let down = rule("b{i - 2}", "c{i}").unwrap();
    assert_eq!(renamed(&down, "b0"), "c2");
    assert_eq!(down.restore(["c1"]).unwrap().new_name("c1"), Some("c1"), "b-1 is no name");
}

#[test]
fn any_text_is_what_remains_between() {
    let map = rule("model.{rest...}.gamma", "{rest}.weight").unwrap();
    assert_eq!(renamed(&map, "model.a.b.c.gamma"), "a.b.c.weight");
    assert_eq!(renamed(&map, "model.gamma.gamma"), "gamma.weight");
    assert_eq!(renamed(&map, "model.gamma"), "model.gamma", "the hole must not be empty");
}

#[test]
fn a_number_tells_a_word_where_to_end() {
    let map = rule("{name}_{i:int}:0", "{name}.{i}").unwrap();
    assert_eq!(renamed(&map, "batch_normalization_12:0"), "batch_normalization.12");
    assert_eq!(map.restore(["a_1.2"]).unwrap().new_name("a_1.2"), Some("a_1_2:0"));
}

#[test]
fn braces_are_doubled() {
    let map = rule("a{{{x}}}", "b{x}").unwrap();
    assert_eq!(renamed(&map, "a{1}"), "b1");
}

#[test]
fn patterns_that_can_be_read_in_two_ways_are_refused() {
    let ambiguous = |first: &str, second: &str| PatternError::Ambiguous {
        first: first.to_string(),
        second: second.to_string(),
    };
    assert_eq!(problem("{a}_{b}"), ambiguous("a", "b"));
    assert_eq!(problem("{a}{b}"), ambiguous("a", "b"));
    assert_eq!(problem("{a:int}{b}"), ambiguous("a", "b"));
    assert_eq!(problem("{a...}.{b...}"), ambiguous("a", "b"));
    assert_eq!(problem("{a...}.x.{b}_{c}"), ambiguous("a", "c"));
    assert_eq!(problem(""), PatternError::Empty);
    assert_eq!(problem("a{"), PatternError::Brace);
    assert_eq!(problem("a}"), PatternError::Brace);
    assert_eq!(problem("{i}.{i}"), PatternError::Twice { name: "i".into() });
    for hole in ["", "i j", "i + x", "i:float", "i..", "i+99999999999"] {
        assert_eq!(problem(&format!("x{{{hole}}}")), PatternError::Hole { text: hole.into() });
    }
    assert!(rule("{a...}.{b}.{c}", "{c}.{b}.{a...}").is_ok());
}

#[test]
fn both_sides_have_the_same_holes() {
    match faults(rule("a.{i}.{j}", "b.{i}.{k}")).remove(0) {
        RenameFault::Holes { only_from, only_to, .. } => {
            assert_eq!((only_from, only_to), (vec!["j".to_string()], vec!["k".to_string()]));
        }
        other => panic!("{other:?}"),
    }
    match faults(rule("a.{i:int}", "b.{i...}")).remove(0) {
        RenameFault::Kinds { name, kinds, .. } => {
            assert_eq!((name.as_str(), kinds), ("i", [Kind::Int, Kind::Path]));
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn all_faults_of_a_map_are_found_at_once_with_their_places() {
    let text =
        "ignore = ['{']\n[[rule]]\nfrom = '{a}_{b}'\nto = '{a}.{b}'\n[[rule]]\nfrom = 'x{i}'\nto = 'y'\n";
    let error = NameMap::parse("rules.toml", text).unwrap_err();
    let codes: Vec<&str> = error.diagnostics().iter().map(|d| d.code).collect();
    assert_eq!(codes, ["bad-pattern", "rule-holes", "bad-pattern"]);
    let shown = error.to_string();
    for place in ["rules.toml:1:", "rules.toml:3:", "rules.toml:6:"] {
        assert!(shown.contains(place), "{shown}");
    }
}

#[test]
fn malformed_text_is_placed() {
    for (text, place) in [
        ("[[rule]]\nfrom = 'a'\nto = \n", "rules.toml:3:"),
        ("[[rule]]\nfrom = 'a'\n", "rules.toml:1:"),
        ("[[rules]]\nfrom = 'a'\nto = 'b'\n", "rules.toml:1:"),
        ("[[rule]]\nfrom = 'a'\nto = 3\n", "rules.toml:3:"),
    ] {
        let error = NameMap::parse("rules.toml", text).unwrap_err();
        assert_eq!(error.diagnostics()[0].code, "bad-map");
        assert!(error.to_string().contains(place), "{error}");
    }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let text = "[[rule]]\nfrom = 'a.special'\nto = 's'\n[[rule]]\nfrom = 'a.{p}'\nto = 'm.{p}'\n";
    let map = NameMap::parse("rules.toml", text).unwrap();
    let renaming = map.rename(["a.special", "a.x", "a.y", "other"]).unwrap();
    let new: Vec<&str> = renaming.iter().map(|(_, new)| new).collect();
    assert_eq!(new, ["s", "m.x", "m.y", "other"]);
    assert_eq!((renaming.matched.as_slice(), renaming.kept.as_slice()), (&[1, 2][..], &["other".into()][..]));
    // The second rule would give `a.special`, which the first one takes elsewhere.
    assert_eq!(map.restore(["m.special"]).unwrap().new_name("m.special"), Some("m.special"));
}

#[test]
fn two_names_that_become_one_are_refused() {
    let text = "[[rule]]\nfrom = 'a.{p}'\nto = '{p}'\n[[rule]]\nfrom = 'b.{p}'\nto = '{p}'\n";
    let map = NameMap::parse("rules.toml", text).unwrap();
    let found = faults(map.rename(["a.x", "b.x", "a.y", "b.z"]));
    match &found[0] {
        RenameFault::Collision { first, second, new, places } => {
            assert_eq!((first.as_str(), second.as_str(), new.as_str()), ("a.x", "b.x", "x"));
            assert_eq!(places.len(), 2);
        }
        other => panic!("{other:?}"),
    }
    // `b.z` becomes `z`, which the first rule takes back to `a.z`.
    match &found[1] {
        RenameFault::NotInvertible { name, back, .. } => {
            assert_eq!((name.as_str(), back.as_deref()), ("b.z", Some("a.z")));
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(found.len(), 2);
}

#[test]
fn a_name_that_stays_may_be_in_the_way() {
    let map = rule("a.{p}", "{p}").unwrap();
    assert!(matches!(faults(map.rename(["a.x", "x"]))[0], RenameFault::Collision { .. }));
    // Alone it would come back as `a.x`.
    assert!(matches!(faults(map.rename(["x"]))[0], RenameFault::NotInvertible { .. }));
}

#[test]
fn ignored_names_have_no_new_name() {
    let text = "ignore = ['cls.{rest...}']\n[[rule]]\nfrom = 'bert.{rest...}'\nto = '{rest}'\n";
    let map = NameMap::parse("rules.toml", text).unwrap();
    let renaming = map.rename(["cls.a.b", "bert.x"]).unwrap();
    assert_eq!((renaming.new_name("cls.a.b"), renaming.new_name("bert.x")), (None, Some("x")));
    assert_eq!(renaming.ignored, ["cls.a.b"]);
    // A model may have a name that is ignored only in the file.
    assert_eq!(map.restore(["cls.a"]).unwrap().new_name("cls.a"), Some("bert.cls.a"));
    let none = NameMap::parse("rules.toml", "ignore = ['cls.{rest...}']").unwrap();
    match faults(none.restore(["cls.a"])).remove(0) {
        RenameFault::NotInvertible { back, .. } => assert_eq!(back, None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rules_that_match_nothing_are_warned_of() {
    let text = "[[rule]]\nfrom = 'a'\nto = 'b'\n[[rule]]\nfrom = 'c'\nto = 'd'\n";
    let map = NameMap::parse("rules.toml", text).unwrap();
    let warnings = map.warnings(&map.rename(["a"]).unwrap());
    assert_eq!(warnings.len(), 1);
    assert_eq!(map.sources().line_column(warnings[0].labels[0].span).0, 5);
}

/// A pattern's text as a list of pieces: holes by number, and separators.
fn pattern_text(order: &[usize], separators: &[&str]) -> String {
    let hole = |number: usize| ["{a}", "{i:int}", "{k + 1}", "{rest...}"][number];
    let mut text = separators[0].to_string();
    for (at, number) in order.iter().enumerate() {
        text.push_str(hole(*number));
        text.push_str(separators[(at + 1) % separators.len()]);
    }
    text
}

fn separator() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![".", "x.", "_", ".y", "/", "0.", ".1", ".layer_", ":0"])
}

fn side() -> impl Strategy<Value = (Vec<usize>, Vec<&'static str>)> {
    let order = Just(vec![0_usize, 1, 2, 3]).prop_shuffle();
    (order, prop::collection::vec(separator(), 5))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// Any rule that is accepted takes names there and back, whatever the holes hold.
    #[test]
    fn an_accepted_rule_is_a_bijection(
        (from, from_sep) in side(),
        (to, to_sep) in side(),
        keep in 1_usize..=4,
        a in "[a-z0-9_:]{1,4}",
        i in 0_i64..30,
        k in 0_i64..30,
        rest in "[a-z0-9_./]{1,6}",
    ) {
        let kept = |order: &[usize]| order.iter().copied().filter(|n| *n < keep).collect::<Vec<_>>();
        let (from, to) = (kept(&from), kept(&to));
        let Ok(map) = rule(&pattern_text(&from, &from_sep), &pattern_text(&to, &to_sep)) else {
            return Ok(());
        };
        // The name that these values make by the file's side, written by hand.
        let values = [a, i.to_string(), (k + 1).to_string(), rest];
        let mut name = from_sep[0].to_string();
        for (at, number) in from.iter().enumerate() {
            name.push_str(&values[*number]);
            name.push_str(from_sep[(at + 1) % from_sep.len()]);
        }
        let renaming = map.rename([name.as_str()]).expect("one rule is always invertible on what it matches");
        prop_assert_eq!(renaming.matched[0], 1, "{} is of the form", name);
        let new = renaming.new_name(&name).unwrap().to_string();
        let mut expected = to_sep[0].to_string();
        for (at, number) in to.iter().enumerate() {
            expected.push_str(&values[*number]);
            expected.push_str(to_sep[(at + 1) % to_sep.len()]);
        }
        prop_assert_eq!(&new, &expected);
        let back = map.restore([new.as_str()]).unwrap();
        prop_assert_eq!(back.new_name(&new), Some(name.as_str()));
    }

    /// For any rules and names: if renaming is accepted, restoring gives the same names back.
    #[test]
    fn restoring_undoes_renaming(
        rules in prop::collection::vec((0_usize..8, 0_usize..8), 0..5),
        ignore in prop::option::of(0_usize..8),
        names in prop::collection::hash_set("[ab]\\.[0-3]\\.[xy]|[ab]\\.[xy]|[abxy]", 0..12),
    ) {
        let pool = ["a.{i}.{p}", "b.{p}.{i}", "{i}.{p}", "{p}.b.{i}", "{r...}.x", "a.{r...}", "{r...}", "y.{r...}"];
        let same_holes = |from: usize, to: usize| (from < 4) == (to < 4);
        let mut text = ignore.map_or(String::new(), |n| format!("ignore = ['{}']\n", pool[n]));
        for (from, to) in rules.into_iter().filter(|(from, to)| same_holes(*from, *to)) {
            text.push_str(&format!("[[rule]]\nfrom = '{}'\nto = '{}'\n", pool[from], pool[to]));
        }
        let map = NameMap::parse("rules.toml", &text).unwrap();
        let Ok(renaming) = map.rename(names.iter().map(String::as_str)) else { return Ok(()) };
        let new: Vec<&str> = renaming.iter().map(|(_, new)| new).collect();
        let back = map.restore(new.iter().copied()).expect("what was renamed can be restored");
        for (old, new) in renaming.iter() {
            prop_assert_eq!(back.new_name(new), Some(old));
        }
        prop_assert_eq!(renaming.iter().len() + renaming.ignored.len(), names.len());
    }
}
