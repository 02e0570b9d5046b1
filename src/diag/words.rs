//! Words of messages: names that were perhaps meant, counts with their nouns.

/// The candidate nearest to a name, if one is near enough to be what was meant.
pub fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = name.chars().count();
    let allowed = (length / 3).max(1);
    candidates
        .into_iter()
        .map(|c| (edit_distance(name, c), c))
        // A name of which nothing is left is another name.
        .filter(|(d, _)| *d <= allowed && *d < length)
        .min_by_key(|(d, c)| (*d, c.len()))
        .map(|(_, c)| c)
}

/// The number of letters to replace, add, leave out or exchange with their neighbour.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows: Vec<Vec<usize>> = vec![(0..=b.len()).collect()];
    for (i, ca) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, cb) in b.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(ca != cb);
            let mut least = replaced.min(row[j] + 1).min(rows[i][j + 1] + 1);
            if i > 0 && j > 0 && *ca == b[j - 1] && a[i - 1] == *cb {
                least = least.min(rows[i - 1][j - 1] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// A count with its noun: "1 axis", "2 axes".
pub fn counted(count: usize, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered_only_if_it_is_near() {
        assert_eq!(nearest("Linaer", ["Linear", "LSTM"]), Some("Linear"));
        assert_eq!(nearest("Lienar2", ["Linear", "LSTM"]), Some("Linear"));
        assert_eq!(nearest("x", ["Linear", "LSTM"]), None);
        assert_eq!(nearest("T", ["B", "D"]), None);
        assert_eq!(nearest("ij", ["kl", "ji"]), Some("ji"));
    }
}
