//! Manifests: files, directories or standard input with YAML or JSON documents.

use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use serde_json::Value;

/// The most bytes one source may have.
const MAX_SOURCE: u64 = 64 * 1024 * 1024;

/// One object and where it came from.
#[derive(Debug)]
pub(crate) struct Document {
    pub source: String,
    pub object: Value,
}

pub(crate) fn read(files: &[PathBuf]) -> anyhow::Result<Vec<Document>> {
    let mut documents = Vec::new();
    for file in files {
        for path in expand(file)? {
            let text = read_source(&path)?;
            documents.extend(parse(&path.display().to_string(), &text)?);
        }
    }
    if documents.is_empty() {
        bail!("no objects in {}", files.iter().map(|f| format!("`{}`", f.display())).collect::<Vec<_>>().join(", "));
    }
    Ok(documents)
}

/// A directory stands for its manifests, by name.
fn expand(path: &Path) -> anyhow::Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.to_owned()]);
    }
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read the directory `{}`", path.display()))?;
    let mut files: Vec<PathBuf> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|p| p.extension().is_some_and(|e| e == "yaml" || e == "yml" || e == "json"))
        .collect();
    files.sort();
    Ok(files)
}

fn read_source(path: &Path) -> anyhow::Result<String> {
    let mut text = String::new();
    let context = || format!("cannot read `{}`", path.display());
    if path == Path::new("-") {
        std::io::stdin().take(MAX_SOURCE).read_to_string(&mut text).with_context(context)?;
    } else {
        std::fs::File::open(path)
            .with_context(context)?
            .take(MAX_SOURCE)
            .read_to_string(&mut text)
            .with_context(context)?;
    }
    Ok(text)
}

pub(crate) fn parse(source: &str, text: &str) -> anyhow::Result<Vec<Document>> {
    let values: Vec<Value> =
        serde_saphyr::from_multiple(text).with_context(|| format!("`{source}` is neither YAML nor JSON"))?;
    let mut documents = Vec::new();
    for value in values {
        flatten(source, value, &mut documents)?;
    }
    Ok(documents)
}

/// A `List` stands for its items; an empty document for nothing.
fn flatten(source: &str, object: Value, documents: &mut Vec<Document>) -> anyhow::Result<()> {
    if object.is_null() {
        return Ok(());
    }
    if object["kind"] == "List"
        && let Some(items) = object["items"].as_array()
    {
        return items.iter().try_for_each(|item| flatten(source, item.clone(), documents));
    }
    for field in ["apiVersion", "kind"] {
        if object[field].as_str().is_none_or(str::is_empty) {
            bail!("an object in `{source}` has no `{field}`");
        }
    }
    documents.push(Document { source: source.to_owned(), object });
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_documents_and_lists_are_taken_apart() {
        let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n---\n---\napiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Pod, metadata: {name: b}}\n";
        let names: Vec<String> = parse("x", text)
            .unwrap()
            .iter()
            .map(|d| d.object["metadata"]["name"].as_str().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["a", "b"]);
    }

    #[test]
    fn what_is_wrong_with_a_file_names_the_file() {
        let error = parse("shop.yaml", "kind: Pod\n").unwrap_err();
        assert_eq!(error.to_string(), "an object in `shop.yaml` has no `apiVersion`");
        let error = parse("shop.yaml", "a: [").unwrap_err();
        assert_eq!(error.to_string(), "`shop.yaml` is neither YAML nor JSON");
    }
}
