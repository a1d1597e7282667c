//! `sluice image`: names under which commands of this machine run as images.

use std::path::Path;

use anyhow::Context as _;
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use serde_json::json;
use sluice_model::fnv1a;

use super::apply::MANAGER;
use crate::connect::connect;
use crate::exit::Exit;
use crate::flags::{Connect, Image, ImageAdd, ImageLs, ImageRm};
use crate::kinds::ours;
use crate::{printer, tables};

const KIND: &str = "ProcessImage";

pub(crate) async fn run(flags: Image) -> anyhow::Result<Exit> {
    match flags {
        Image::Add(flags) => add(flags).await,
        Image::Ls(flags) => ls(flags).await,
        Image::Rm(flags) => rm(flags).await,
    }
}

async fn images(flags: &Connect) -> anyhow::Result<Api<DynamicObject>> {
    Ok(Api::all_with(connect(flags).await?.client, &ours(KIND)))
}

async fn add(flags: ImageAdd) -> anyhow::Result<Exit> {
    let exec = absolute(&flags.exec)?;
    anyhow::ensure!(exec.is_file(), "`--exec {}` is no file", exec.display());
    let mut spec = json!({"image": flags.name, "exec": exec, "args": flags.args});
    if let Some(dir) = &flags.dir {
        let dir = absolute(dir)?;
        anyhow::ensure!(dir.is_dir(), "`--dir {}` is no directory", dir.display());
        spec["dir"] = json!(dir);
    }
    let name = object_name(&flags.name);
    let object = json!({
        "apiVersion": ours(KIND).api_version, "kind": KIND, "metadata": {"name": name}, "spec": spec,
    });
    let images = images(&flags.connect).await?;
    images.patch(&name, &PatchParams::apply(MANAGER).force(), &Patch::Apply(&object)).await?;
    printer::line(&format!("image `{}` runs {}", flags.name, exec.display()));
    Ok(Exit::Ok)
}

async fn ls(flags: ImageLs) -> anyhow::Result<Exit> {
    let images = images(&flags.connect).await?;
    let list = images.list(&ListParams::default()).await?;
    if flags.output.is_some() {
        let specs: Vec<_> = list.items.iter().map(|i| i.data["spec"].clone()).collect();
        printer::json(&json!(specs));
        return Ok(Exit::Ok);
    }
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let rows: Vec<Vec<String>> = list
        .items
        .iter()
        .map(|i| &i.data["spec"])
        .map(|spec| vec![text(&spec["image"]), text(&spec["exec"]), text(&spec["dir"]), args(spec)])
        .collect();
    printer::text(&tables::align(&["IMAGE", "EXEC", "DIR", "ARGS"].map(String::from), &rows));
    Ok(Exit::Ok)
}

async fn rm(flags: ImageRm) -> anyhow::Result<Exit> {
    let images = images(&flags.connect).await?;
    images.delete(&object_name(&flags.name), &DeleteParams::default()).await?;
    printer::line(&format!("image `{}` forgotten", flags.name));
    Ok(Exit::Ok)
}

fn args(spec: &serde_json::Value) -> String {
    let words = spec["args"].as_array().into_iter().flatten().filter_map(|a| a.as_str());
    words.collect::<Vec<_>>().join(" ")
}

fn absolute(path: &Path) -> anyhow::Result<std::path::PathBuf> {
    std::fs::canonicalize(path).with_context(|| format!("cannot find `{}`", path.display()))
}

/// Image names have characters that object names may not have; the image itself stands in `spec.image`.
fn object_name(image: &str) -> String {
    let plain: String =
        image.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let hash = fnv1a(image.as_bytes());
    format!("{}-{hash:08x}", plain.trim_matches('-').chars().take(50).collect::<String>().trim_matches('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn image_names_become_object_names_without_collisions() {
        assert_eq!(object_name("shop:v1"), "shop-v1-1f707bb4");
        assert_ne!(object_name("shop:v1"), object_name("shop-v1"));
        assert!(object_name("registry.example/a/b@sha256:0").starts_with("registry-example-a-b-sha256-0-"));
    }
}
