//! The difference of two values as the real server shows it: a unified diff of their indented JSON.

use serde_json::Value;

const CONTEXT: usize = 3;

/// What changed from `old` to `new`, both of the struct `name`, as hunks with three lines around each change.
pub(crate) fn diff(name: &str, old: &Value, new: &Value) -> String {
    let (old, new) = (indented(&super::print(name, old)), indented(&super::print(name, new)));
    unified(&old, &new)
}

/// Compact JSON with every entry on its own line, one space deeper for each level.
fn indented(json: &str) -> Vec<String> {
    let mut lines = vec![String::new()];
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut chars = json.chars().peekable();
    while let Some(c) = chars.next() {
        let line = lines.last_mut().expect("there is always a line");
        if in_string {
            line.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' => {
                line.push(c);
                if let Some(close) = chars.next_if(|next| matches!(next, '}' | ']')) {
                    line.push(close);
                } else {
                    depth += 1;
                    lines.push(" ".repeat(depth));
                }
            }
            '}' | ']' => {
                depth -= 1;
                lines.push(" ".repeat(depth) + &c.to_string());
            }
            ',' => {
                line.push(c);
                lines.push(" ".repeat(depth));
            }
            ':' => line.push_str(": "),
            c => {
                in_string = c == '"';
                line.push(c);
            }
        }
    }
    lines
}

/// One line of either side: kept, taken away, or added.
enum Edit<'a> {
    Keep(&'a str),
    Remove(&'a str),
    Add(&'a str),
}

fn unified(old: &[String], new: &[String]) -> String {
    let edits = edits(old, new);
    let changed: Vec<usize> =
        edits.iter().enumerate().filter(|(_, edit)| !matches!(edit, Edit::Keep(_))).map(|(index, _)| index).collect();
    let mut out = String::new();
    let mut next = 0;
    while next < changed.len() {
        let mut last = next;
        while last + 1 < changed.len() && changed[last + 1] - changed[last] <= 2 * CONTEXT + 1 {
            last += 1;
        }
        let (from, to) = (changed[next].saturating_sub(CONTEXT), (changed[last] + CONTEXT + 1).min(edits.len()));
        write_hunk(&mut out, &edits, from, to);
        next = last + 1;
    }
    out
}

fn write_hunk(out: &mut String, edits: &[Edit<'_>], from: usize, to: usize) {
    let in_old = |edits: &[Edit<'_>]| edits.iter().filter(|edit| !matches!(edit, Edit::Add(_))).count();
    let in_new = |edits: &[Edit<'_>]| edits.iter().filter(|edit| !matches!(edit, Edit::Remove(_))).count();
    let (before, hunk) = (&edits[..from], &edits[from..to]);
    let (old, new) = ((in_old(before) + 1, in_old(hunk)), (in_new(before) + 1, in_new(hunk)));
    out.push_str(&format!("@@ -{},{} +{},{} @@\n", old.0, old.1, new.0, new.1));
    for edit in hunk {
        let (mark, line) = match edit {
            Edit::Keep(line) => (' ', line),
            Edit::Remove(line) => ('-', line),
            Edit::Add(line) => ('+', line),
        };
        out.push(mark);
        out.push_str(line);
        out.push('\n');
    }
}

/// The shortest way from one side to the other; what is alike at both ends is left out of the search.
fn edits<'a>(old: &'a [String], new: &'a [String]) -> Vec<Edit<'a>> {
    // The tail first: what could stand in two places is shown in the earlier one.
    let tail = old.iter().rev().zip(new.iter().rev()).take_while(|(a, b)| a == b).count();
    let (old_rest, new_rest) = (&old[..old.len() - tail], &new[..new.len() - tail]);
    let head = old_rest.iter().zip(new_rest).take_while(|(a, b)| a == b).count();
    let (old_middle, new_middle) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    // longest[i][j]: how many lines the rests from i and j have in common.
    let mut longest = vec![vec![0_usize; new_middle.len() + 1]; old_middle.len() + 1];
    for i in (0..old_middle.len()).rev() {
        for j in (0..new_middle.len()).rev() {
            longest[i][j] = if old_middle[i] == new_middle[j] {
                longest[i + 1][j + 1] + 1
            } else {
                longest[i + 1][j].max(longest[i][j + 1])
            };
        }
    }
    let mut edits: Vec<Edit<'a>> = old[..head].iter().map(|line| Edit::Keep(line)).collect();
    let (mut i, mut j) = (0, 0);
    while i < old_middle.len() || j < new_middle.len() {
        if i < old_middle.len() && j < new_middle.len() && old_middle[i] == new_middle[j] {
            edits.push(Edit::Keep(&old_middle[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new_middle.len() || i < old_middle.len() && longest[i + 1][j] >= longest[i][j + 1] {
            edits.push(Edit::Remove(&old_middle[i]));
            i += 1;
        } else {
            edits.push(Edit::Add(&new_middle[j]));
            j += 1;
        }
    }
    edits.extend(old[old.len() - tail..].iter().map(|line| Edit::Keep(line)));
    edits
}
