//! Long lists, a page at a time.

use std::fmt::Display;

/// Rows on one page.
const ROWS_MAX: usize = 100;

/// A page of a list.
pub(super) struct Page<T> {
    pub(super) rows: Vec<T>,
    /// Where the next page begins: behind this name.
    pub(super) next: Option<String>,
    /// Whether there are rows before it.
    pub(super) later: bool,
}

/// The page behind the name `after` of rows that are in the order of their names.
pub(super) fn page_of<T>(mut rows: Vec<T>, after: &str, name: impl Fn(&T) -> &str) -> Page<T> {
    let before = rows.len();
    rows.retain(|row| after.is_empty() || name(row) > after);
    let (later, more) = (rows.len() < before, rows.len() > ROWS_MAX);
    rows.truncate(ROWS_MAX);
    let next = rows.last().filter(|_| more).map(|row| name(row).to_owned());
    Page { rows, next, later }
}

/// The query of the page behind the cursor `next`, of a list that was asked for with `query`.
pub(super) fn older(query: &str, next: impl Display) -> String {
    let ampersand = if query.is_empty() { "" } else { "&" };
    format!("{query}{ampersand}before={next}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_without_a_gap() {
        let names: Vec<String> = (0..250).map(|n| format!("n{n:03}")).collect();
        let (mut seen, mut after) = (Vec::new(), String::new());
        loop {
            let page = page_of(names.clone(), &after, String::as_str);
            assert_eq!(page.later, !after.is_empty());
            seen.extend(page.rows);
            match page.next {
                Some(next) => after = next,
                None => break,
            }
        }
        assert_eq!(seen, names);
    }
}
