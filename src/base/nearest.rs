//! Suggestions for a misspelt word.

/// The candidate with the smallest edit distance to `word`, or `None` if even that distance is too large for a typing
/// error. Upper and lower case are equal.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = word.to_lowercase();
    let with_distance = candidates.into_iter().map(|c| (distance(&word, &c.to_lowercase()), c));
    let (distance, best) = with_distance.min_by_key(|&(d, _)| d)?;
    (distance <= (best.len() / 3).max(2) && distance < best.len()).then_some(best)
}

/// The number of insertions, deletions, replacements and swaps of neighbouring characters that turn `a` into `b`
/// (the restricted Damerau-Levenshtein distance).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let a: Vec<char> = a.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 0..a.len() {
        let mut row = vec![i + 1];
        for j in 0..b.len() {
            let changed = last[j] + usize::from(a[i] != b[j]);
            let mut d = changed.min(last[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i] == b[j - 1] && a[i - 1] == b[j] {
                d = d.min(before[j - 1] + 1);
            }
            row.push(d);
        }
        before = std::mem::replace(&mut last, row);
    }
    last[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_edits_and_swaps() {
        assert_eq!(distance("kernel", "kernel"), 0);
        assert_eq!(distance("kernl", "kernel"), 1);
        assert_eq!(distance("kenrel", "kernel"), 1);
        assert_eq!(distance("kitten", "sitting"), 3);
        assert_eq!(distance("", "pool"), 4);
    }

    #[test]
    fn no_candidate_is_suggested_beyond_a_typing_error() {
        assert_eq!(nearest("Kernal", ["kernel", "pool"]), Some("kernel"));
        assert_eq!(nearest("sevn", ["bed", "seven", "three"]), Some("seven"));
        assert_eq!(nearest("marvin", ["bed", "seven", "three"]), None);
        assert_eq!(nearest("xy", ["do"]), None);
    }
}
