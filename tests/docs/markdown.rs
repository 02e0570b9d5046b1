//! As much of Markdown as the documents use: fenced blocks, inline code, links and headings.

/// A fenced block.
pub struct Block<'a> {
    /// What stands after the fence: `mdl`.
    pub info: &'a str,
    /// Line of its first line of text, counted from 1.
    pub line: usize,
    /// Its text.
    pub text: String,
}

/// The fenced blocks of a text, in order.
pub fn blocks(text: &str) -> Vec<Block<'_>> {
    let mut found = Vec::new();
    let mut open: Option<Block<'_>> = None;
    for (n, line) in text.lines().enumerate() {
        match (&mut open, line.strip_prefix("```")) {
            (None, Some(info)) => open = Some(Block { info, line: n + 2, text: String::new() }),
            (Some(_), Some("")) => found.extend(open.take()),
            (Some(block), _) => {
                block.text.push_str(line);
                block.text.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block is not closed");
    found
}

/// Lines outside fenced blocks, with their numbers from 1.
pub fn prose(text: &str) -> Vec<(usize, &str)> {
    let mut inside = false;
    let mut found = Vec::new();
    for (n, line) in text.lines().enumerate() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            found.push((n + 1, line));
        }
    }
    found
}

/// The text between single back-quotes; spans do not cross lines here.
pub fn spans(line: &str) -> Vec<&str> {
    // Double back-quotes hold text with back-quotes in it, which is never a path.
    let parts: Vec<&str> = line.split('`').collect();
    if parts.len().is_multiple_of(2) || line.contains("``") {
        return Vec::new();
    }
    parts.into_iter().skip(1).step_by(2).collect()
}

/// A line without its inline code.
pub fn without_code(line: &str) -> String {
    line.split('`').step_by(2).collect()
}

/// Targets of the links of a line.
pub fn links(line: &str) -> Vec<String> {
    // Code in the text of a link keeps its brackets: only what stands in parentheses counts.
    let found = line.split("](").skip(1);
    found.filter_map(|rest| rest.split_once(')')).map(|(target, _)| target.to_string()).collect()
}

/// The anchor that a heading gets.
pub fn anchor(heading: &str) -> String {
    let kept = heading.trim_start_matches('#').trim().to_lowercase();
    let kept = kept.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    kept.map(|c| if c == ' ' { '-' } else { c }).collect()
}

/// The cells of a table's row, trimmed; nothing for other lines.
pub fn cells(line: &str) -> Option<Vec<String>> {
    let inner = line.trim().strip_prefix('|')?.strip_suffix('|')?;
    let mut cells = vec![String::new()];
    let mut escaped = false;
    for c in inner.chars() {
        if c == '|' && !escaped {
            cells.push(String::new());
        } else if let Some(cell) = cells.last_mut() {
            cell.push(c);
        }
        escaped = c == '\\';
    }
    Some(cells.into_iter().map(|cell| cell.trim().to_string()).collect())
}

#[test]
fn blocks_and_prose_are_told_apart() {
    let text = "a\n```mdl\nb\n```\n`c` [d](e) `f`\n";
    let found = blocks(text);
    assert_eq!((found[0].info, found[0].line, found[0].text.as_str()), ("mdl", 3, "b\n"));
    assert_eq!(prose(text), [(1, "a"), (5, "`c` [d](e) `f`")]);
    assert_eq!(spans(prose(text)[1].1), ["c", "f"]);
    assert_eq!(links(prose(text)[1].1), ["e"]);
    assert_eq!(anchor("## Drawing masks: `a`"), "drawing-masks-a");
    assert_eq!(cells("| a | b\\|c |").unwrap(), ["a", "b\\|c"]);
}
