//! Text with lines that depend on conditions, and places for values.

/// Fills a template: of the lines from `@if NAME` to `@end`, with an optional `@else`, those remain whose condition holds, and `@KEY@` becomes the value
/// of the key.
pub(super) fn fill(template: &str, conditions: &[&str], values: &[(&str, &str)]) -> String {
    let mut text = String::new();
    // For each open condition whether its lines remain.
    let mut open: Vec<bool> = Vec::new();
    for line in template.lines() {
        if let Some(condition) = line.strip_prefix("@if ") {
            open.push(conditions.contains(&condition));
        } else if line == "@else" {
            open.iter_mut().next_back().into_iter().for_each(|holds| *holds = !*holds);
        } else if line == "@end" {
            open.pop();
        } else if open.iter().all(|&holds| holds) {
            text.push_str(line);
            text.push('\n');
        }
    }
    for (key, value) in values {
        text = text.replace(&format!("@{key}@"), value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_remain_where_all_conditions_around_them_hold() {
        let template = "a @X@\n@if p\nb\n@if q\nc\n@else\nd\n@end\n@end\ne\n";
        assert_eq!(fill(template, &["p"], &[("X", "1")]), "a 1\nb\nd\ne\n");
        assert_eq!(fill(template, &["p", "q"], &[]), "a @X@\nb\nc\ne\n");
        assert_eq!(fill(template, &["q"], &[("X", "")]), "a \ne\n");
    }
}
