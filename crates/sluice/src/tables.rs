//! Columns of text, as `get` shows them.

use serde_json::Value;

/// Lines up rows under their headers; the last column is not padded.
pub(crate) fn align(headers: &[String], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = headers.iter().map(|h| h.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    for row in std::iter::once(headers).chain(rows.iter().map(Vec::as_slice)) {
        let cells: Vec<String> = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push_str(cells.join("   ").trim_end());
        out.push('\n');
    }
    out
}

/// A Table answer of the API as headers and rows; `namespaces` puts the namespace in front.
pub(crate) fn from_api(table: &Value, wide: bool, namespaces: bool) -> (Vec<String>, Vec<Vec<String>>) {
    let columns: Vec<(usize, String)> = table["columnDefinitions"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
        .filter(|(_, c)| wide || c["priority"].as_i64().unwrap_or(0) == 0)
        .map(|(n, c)| (n, c["name"].as_str().unwrap_or_default().to_uppercase()))
        .collect();
    let mut headers: Vec<String> = columns.iter().map(|(_, name)| name.clone()).collect();
    let mut rows: Vec<Vec<String>> = Vec::new();
    for row in table["rows"].as_array().into_iter().flatten() {
        let mut cells: Vec<String> = columns.iter().map(|(n, _)| cell(&row["cells"][*n])).collect();
        if namespaces {
            cells.insert(0, cell(&row["object"]["metadata"]["namespace"]));
        }
        rows.push(cells);
    }
    if namespaces {
        headers.insert(0, "NAMESPACE".into());
    }
    (headers, rows)
}

fn cell(value: &Value) -> String {
    match value {
        Value::Null => "<none>".into(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_wide_ones_hide() {
        let table = serde_json::json!({
            "columnDefinitions": [{"name": "Name", "priority": 0}, {"name": "Ready", "priority": 0}, {"name": "Node", "priority": 1}],
            "rows": [{"cells": ["shop", "1/1", "here"], "object": {"metadata": {"namespace": "default"}}}],
        });
        let (headers, rows) = from_api(&table, false, false);
        assert_eq!(align(&headers, &rows), "NAME   READY\nshop   1/1\n");
        let (headers, rows) = from_api(&table, true, true);
        assert_eq!(align(&headers, &rows), "NAMESPACE   NAME   READY   NODE\ndefault     shop   1/1     here\n");
    }
}
