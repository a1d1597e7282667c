//! Makes the generated data files. The house rules are the test beside it.
//!
//! ```text
//! cargo xtask schema --published DIR --facts FILE      the built-in kinds
//! cargo xtask gateway-api DIR                          the Gateway API definitions
//! ```

mod gateway_api;
mod kinds;
mod prose;
mod schema;
mod types;

use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};

const USAGE: &str = "usage: cargo xtask schema --published DIR --facts FILE | gateway-api DIR";

fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["schema", "--published", published, "--facts", facts] => schema::generate(published.as_ref(), facts.as_ref()),
        ["gateway-api", definitions] => gateway_api::generate(definitions.as_ref()),
        _ => bail!(USAGE),
    }
}

/// Where the generated data lives.
fn data_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/schema/data")
}

fn write(name: &str, bytes: impl AsRef<[u8]>) -> anyhow::Result<()> {
    let path = data_dir().join(name);
    std::fs::create_dir_all(path.parent().expect("a data file lies in a folder"))?;
    std::fs::write(&path, bytes).with_context(|| format!("cannot write `{}`", path.display()))
}

fn read_json(path: &Path) -> anyhow::Result<serde_json::Value> {
    let bytes = std::fs::read(path).with_context(|| format!("cannot read `{}`", path.display()))?;
    serde_json::from_slice(&bytes).with_context(|| format!("`{}` is no JSON", path.display()))
}
