//! What an image name stands for on this node: a command of this machine.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use futures::StreamExt as _;
use kube::{
    Api, Client,
    core::{ApiResource, DynamicObject, GroupVersionKind},
    runtime::{WatchStreamExt as _, watcher},
};
use sluice_model::image::ProcessImageSpec;
use tokio::sync::broadcast;
use tracing::warn;

use super::sources::Reference;

/// Any program of this machine: the container's own `command` says which.
const HOST: &str = "host";
/// Our own binary as a small web shop; the tag becomes `$DEMO_VERSION`.
const DEMO: &str = "sluice.dev/demo";

/// A resolved image: what runs when the container says nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Image {
    pub(super) entrypoint: Vec<String>,
    pub(super) arguments: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) dir: Option<String>,
    /// `USER[:GROUP]`, each a name or a number of the image's own; empty for root.
    pub(super) user: String,
    /// `STOPSIGNAL`: a name or a number; empty for the usual one.
    pub(super) stop_signal: String,
    /// Unpacked, bottom first; none for an image that stands for the machine's own files.
    pub(super) layers: Vec<PathBuf>,
    /// Where it declares volumes.
    pub(super) volumes: Vec<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "no process image is called \"{image}\" and this node runs no containers: register it with `sluice image add {image} --exec PATH`, \
     or use \"host\" with a command of this machine"
)]
pub(super) struct UnknownImage {
    image: String,
}

/// The registered images by the name that pods use; cheap to clone and always current.
#[derive(Debug, Clone, Default)]
pub(super) struct Images {
    registered: Arc<ArcSwap<BTreeMap<String, ProcessImageSpec>>>,
}

impl From<sluice_image::Image> for Image {
    fn from(image: sluice_image::Image) -> Self {
        let run = image.config.config;
        let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self {
            entrypoint: run.entrypoint,
            arguments: run.cmd,
            env: run.env.iter().filter_map(pair).collect(),
            dir: Some(run.working_dir).filter(|dir| !dir.is_empty()),
            user: run.user,
            stop_signal: run.stop_signal,
            layers: image.layers,
            volumes: run.volumes.into_keys().map(PathBuf::from).collect(),
        }
    }
}

impl Images {
    pub(super) fn resolve(&self, image: &str, exe: &Path) -> Result<Image, UnknownImage> {
        if image == HOST {
            return Ok(Image::default());
        }
        if let Some(tag) = demo_tag(image) {
            return Ok(Image {
                entrypoint: vec![exe.to_string_lossy().into_owned(), "demo-shop".to_owned()],
                env: vec![("DEMO_VERSION".to_owned(), tag.to_owned())],
                ..Image::default()
            });
        }
        let registered = self.registered.load();
        let spec = registered.get(image).ok_or_else(|| UnknownImage { image: image.to_owned() })?;
        Ok(Image {
            entrypoint: vec![spec.exec.clone()],
            arguments: spec.args.clone(),
            dir: spec.dir.clone(),
            ..Image::default()
        })
    }

    /// Whether a name stands for a program of this machine.
    pub(super) fn is_process(&self, image: &str) -> bool {
        image == HOST || demo_tag(image).is_some() || self.registered.load().contains_key(image)
    }

    /// Follows the ProcessImages and tells the pods when there is another one.
    pub(super) async fn follow(self, client: Client, changes: broadcast::Sender<Reference>) {
        let kind = ApiResource::from_gvk(&GroupVersionKind::gvk("sluice.dev", "v1alpha1", "ProcessImage"));
        let api = Api::<DynamicObject>::all_with(client, &kind);
        let mut events = std::pin::pin!(watcher(api, watcher::Config::default()).default_backoff());
        let mut by_object = BTreeMap::new();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => by_object.clear(),
                Ok(watcher::Event::InitApply(object)) => keep(&mut by_object, &object),
                Ok(watcher::Event::InitDone) => self.publish(&by_object, &changes),
                Ok(watcher::Event::Apply(object)) => {
                    keep(&mut by_object, &object);
                    self.publish(&by_object, &changes);
                }
                Ok(watcher::Event::Delete(object)) => {
                    by_object.remove(object.metadata.name.as_deref().unwrap_or_default());
                    self.publish(&by_object, &changes);
                }
                Err(error) => warn!(%error, "Process images not watched"),
            }
        }
    }

    fn publish(&self, by_object: &BTreeMap<String, ProcessImageSpec>, changes: &broadcast::Sender<Reference>) {
        self.registered.store(Arc::new(by_object.values().map(|spec| (spec.image.clone(), spec.clone())).collect()));
        // Without a pod nobody listens.
        let _listeners = changes.send(Reference::Image);
    }
}

fn keep(by_object: &mut BTreeMap<String, ProcessImageSpec>, object: &DynamicObject) {
    let name = object.metadata.name.clone().unwrap_or_default();
    match serde_json::from_value(object.data["spec"].clone()) {
        Ok(spec) => drop(by_object.insert(name, spec)),
        Err(error) => warn!(image = name, %error, "Process image not understood"),
    }
}

fn demo_tag(image: &str) -> Option<&str> {
    match image.strip_prefix(DEMO)? {
        "" => Some("latest"),
        rest => rest.strip_prefix(':').filter(|tag| !tag.is_empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_compared_as_written() {
        let images = Images::default();
        let spec = ProcessImageSpec {
            image: "registry.test/web:1".to_owned(),
            exec: "/usr/bin/web".to_owned(),
            dir: Some("/srv".to_owned()),
            args: vec!["-v".to_owned()],
        };
        images.registered.store(Arc::new([(spec.image.clone(), spec)].into()));
        let entrypoint =
            |image: &str| images.resolve(image, Path::new("/bin/sluice")).map(|image| image.entrypoint.join(" "));
        assert_eq!(entrypoint("host").as_deref(), Ok(""));
        assert_eq!(entrypoint("sluice.dev/demo:v2").as_deref(), Ok("/bin/sluice demo-shop"));
        assert_eq!(entrypoint("registry.test/web:1").as_deref(), Ok("/usr/bin/web"));
        for unknown in ["registry.test/web", "registry.test/web:2", "sluice.dev/demos", "sluice.dev/demo:", "nginx"] {
            let error = entrypoint(unknown).expect_err(unknown).to_string();
            assert!(error.contains(&format!("`sluice image add {unknown} --exec PATH`")), "{error}");
        }
        let demo = images.resolve("sluice.dev/demo:v2", Path::new("/bin/sluice")).expect("the demo");
        assert_eq!(demo.env, [("DEMO_VERSION".to_owned(), "v2".to_owned())]);
    }
}
