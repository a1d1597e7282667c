//! `sluice image`: images of this machine, and names under which its commands run as images.

mod local;

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
        Image::Pull(flags) => local::pull(flags).await,
        Image::Load(flags) => local::load(&flags),
        Image::Inspect(flags) => local::inspect(&flags),
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

/// Images of both kinds. Without an engine there are no process images to list.
async fn ls(flags: ImageLs) -> anyhow::Result<Exit> {
    let records = local::open(&flags.store)?.list()?;
    let specs: Vec<serde_json::Value> = match images(&flags.connect).await {
        Ok(api) => match api.list(&ListParams::default()).await {
            Ok(list) => list.items.iter().map(|image| image.data["spec"].clone()).collect(),
            Err(kube::Error::Api(status)) => return Err(kube::Error::Api(status).into()),
            Err(_) => Vec::new(),
        },
        Err(_) => Vec::new(),
    };
    if flags.output.is_some() {
        let all: Vec<_> = specs.into_iter().chain(records.iter().map(local::to_json)).collect();
        printer::json(&json!(all));
        return Ok(Exit::Ok);
    }
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    let runs = |spec: &serde_json::Value| format!("{} {}", text(&spec["exec"]), args(spec)).trim_end().to_owned();
    let process = specs.iter().map(|spec| {
        vec![text(&spec["image"]), String::new(), String::new(), String::new(), runs(spec), text(&spec["dir"])]
    });
    let rows: Vec<Vec<String>> = process.chain(records.iter().flat_map(local::rows)).collect();
    printer::text(&tables::align(&["IMAGE", "ID", "SIZE", "PULLED", "EXEC", "DIR"].map(String::from), &rows));
    Ok(Exit::Ok)
}

async fn rm(flags: ImageRm) -> anyhow::Result<Exit> {
    if local::rm(&flags)? {
        return Ok(Exit::Ok);
    }
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
