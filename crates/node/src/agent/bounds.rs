//! What a pod's processes are held to on this machine: from its manifest and annotations. Pure but for [`Means::find_out`].
//!
//! Pods have no fields for what only a process knows, so annotations say it: `sluice.dev/WISH` for every container of the
//! pod, `WISH.sluice.dev/NAME` for one of them.

use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec};
use kube::ResourceExt as _;
use sluice_model::quantity::Quantity;
use sluice_pod::{
    bounds::{Bounds, Place, Reach, Rlimit},
    driver::{
        cgroup,
        process::{RLIMITS, landlock},
    },
    pod_dir::PodDir,
    supervisor::spool::{HOOK, STREAMS, fifo},
};

use super::{
    confine::{capabilities, groups},
    images::Image,
    resources::container_resources,
    volumes,
};

/// Of `setrlimit`: `nofile=4096,core=0`, or soft and hard as in `nofile=1024:4096`.
pub(super) const RLIMITS_WISH: &str = "rlimits";
/// `true`: its own directory, its volumes and what programs need of a system, and nothing else.
pub(super) const CONFINE_WISH: &str = "confine";
const DOMAIN: &str = "sluice.dev";
/// The first version of Landlock that keeps files from being emptied.
const KEEPS_FROM_EMPTYING: u32 = 3;

/// What this machine and this engine's rights make of a wish.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Means {
    /// `None`: this engine may make no control groups.
    pub(super) limits: Option<cgroup::Limits>,
    /// Users and groups are ours to give.
    pub(super) root: bool,
    /// The version of Landlock; `None`: the kernel has none.
    pub(super) landlock: Option<u32>,
}

impl Means {
    pub(super) fn find_out() -> Self {
        let root = rustix::process::geteuid().is_root();
        Self { limits: cgroup::try_out(), root, landlock: landlock::version() }
    }

    /// What a pod that is to be confined is told of an old kernel.
    pub(super) fn gap(&self, pod: &Pod) -> Option<String> {
        let version = self.landlock.filter(|version| *version < KEEPS_FROM_EMPTYING)?;
        wished(pod, CONFINE_WISH)?;
        let moves = if version == 1 { ", and lets it move no file to another directory" } else { "" };
        Some(format!(
            "Landlock of this kernel (version {version}) does not keep a process from emptying files that its user may \
             write to, as that of Linux 6.2 does{moves}"
        ))
    }
}

/// How much of the machine's files is left to a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Files {
    All,
    /// `readOnlyRootFilesystem`: to read.
    ReadOnly,
    /// `sluice.dev/confine`.
    Own,
}

/// What bounds are made from.
pub(super) struct Wish<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a PodSpec,
    pub(super) container: &'a Container,
    pub(super) image: &'a Image,
    pub(super) dir: &'a PodDir,
    pub(super) means: &'a Means,
}

/// How much a container is to see of the machine's files, as far as that is possible here.
pub(super) fn files(pod: &Pod, container: &Container, means: &Means) -> Result<Files, String> {
    let own = container.security_context.as_ref();
    let read_only = own.and_then(|own| own.read_only_root_filesystem) == Some(true);
    let confine = match annotation(pod, &container.name, CONFINE_WISH)? {
        None | Some((_, "false")) => None,
        Some((name, "true")) => Some(name),
        Some((name, other)) => return Err(format!("annotation `{name}`: \"{other}\" is neither true nor false")),
    };
    match (confine, means.landlock) {
        (Some(_), Some(_)) => Ok(Files::Own),
        (Some(name), None) => Err(format!(
            "annotation `{name}` cannot be met: this kernel has no Landlock (Linux 5.13 and newer, where the kernel is \
             started with it): leave it out, or run the pod with runtimeClassName container"
        )),
        (None, Some(_)) if read_only => Ok(Files::ReadOnly),
        (None, _) => Ok(Files::All),
    }
}

impl Wish<'_> {
    pub(super) fn bounds(&self) -> Result<Bounds, String> {
        let own = self.container.security_context.as_ref();
        let pods = self.spec.security_context.as_ref();
        let files = files(self.pod, self.container, self.means)?;
        Ok(Bounds {
            container: self.container.name.clone(),
            resources: container_resources(self.container),
            rlimits: self.rlimits()?,
            groups: if self.means.root { groups(pods) } else { Vec::new() },
            no_new_privileges: own.and_then(|own| own.allow_privilege_escalation) == Some(false),
            reach: (files != Files::All).then(|| self.reach(files)),
            capabilities: (files == Files::Own).then(|| capabilities(own)).transpose()?,
        })
    }

    fn reach(&self, files: Files) -> Reach {
        let (name, dir) = (&self.container.name, self.dir);
        let own = STREAMS.into_iter().chain([HOOK]).map(|stream| fifo(dir, name, stream)).chain([dir.container(name)]);
        let own = own.map(|path| Place { path, sub_path: None, writable: true });
        // Where a process begins need not be its own: at `/`, nothing would be closed to it.
        let of_image = self.image.dir.as_ref().filter(|dir| Path::new(dir) != Path::new("/"));
        let of_image = of_image.map(|dir| Place { path: PathBuf::from(dir), sub_path: None, writable: false });
        let places = own.chain(of_image).chain(volumes::reached(self.pod, dir, self.container));
        Reach { machine: files == Files::ReadOnly, places: places.collect() }
    }

    fn rlimits(&self) -> Result<Vec<Rlimit>, String> {
        let Some((name, text)) = annotation(self.pod, &self.container.name, RLIMITS_WISH)? else {
            return Ok(Vec::new());
        };
        let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
        parts.map(|part| rlimit(part).map_err(|why| format!("annotation `{name}`: \"{part}\" {why}"))).collect()
    }
}

/// What a pod wishes for one of its containers, and which annotation says so.
fn annotation<'a>(pod: &'a Pod, container: &str, wish: &str) -> Result<Option<(String, &'a str)>, String> {
    let prefix = format!("{wish}.{DOMAIN}/");
    let spec = pod.spec.as_ref();
    let known = |name: &str| {
        let all = spec.into_iter().flat_map(|spec| spec.init_containers.iter().flatten().chain(&spec.containers));
        all.into_iter().any(|container| container.name == name)
    };
    let names = pod.annotations().keys().filter_map(|key| key.strip_prefix(&prefix));
    if let Some(unknown) = names.into_iter().find(|name| !known(name)) {
        return Err(format!("annotation `{prefix}{unknown}` names no container of this pod"));
    }
    let found = |key: String| pod.annotations().get(&key).map(|text| (key, text.as_str()));
    Ok(found(format!("{prefix}{container}")).or_else(|| found(format!("{DOMAIN}/{wish}"))))
}

/// Whether a pod has such an annotation, for all or for one of its containers: its name.
pub(super) fn wished<'a>(pod: &'a Pod, wish: &str) -> Option<&'a str> {
    let (all, one) = (format!("{DOMAIN}/{wish}"), format!("{wish}.{DOMAIN}/"));
    pod.annotations().keys().map(String::as_str).find(|key| *key == all || key.starts_with(&one))
}

fn rlimit(text: &str) -> Result<Rlimit, String> {
    let (name, values) = text.split_once('=').ok_or("is not of the form NAME=VALUE or NAME=SOFT:HARD")?;
    if !RLIMITS.iter().any(|(known, _)| *known == name) {
        let known: Vec<&str> = RLIMITS.iter().map(|(known, _)| *known).collect();
        return Err(format!("is none of {}", known.join(", ")));
    }
    let (soft, hard) = values.split_once(':').unwrap_or((values, values));
    let limit = Rlimit { name: name.to_owned(), soft: value(soft)?, hard: value(hard)? };
    match (limit.soft, limit.hard) {
        (None, Some(_)) => Err("has a soft limit above its hard one".to_owned()),
        (Some(soft), Some(hard)) if soft > hard => Err("has a soft limit above its hard one".to_owned()),
        _ => Ok(limit),
    }
}

/// `None` is without limit.
fn value(text: &str) -> Result<Option<u64>, String> {
    if text == "unlimited" {
        return Ok(None);
    }
    let quantity = text.parse::<Quantity>().ok().and_then(|quantity| u64::try_from(quantity.value()).ok());
    quantity
        .map(Some)
        .ok_or_else(|| format!("has `{text}`, which is neither a whole number, nor one like 4Ki, nor `unlimited`"))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn bounds(annotations: &Value, context: &Value) -> Result<Bounds, String> {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": annotations},
            "spec": {
                "containers": [
                    {"name": "web", "securityContext": context, "volumeMounts": [
                        {"name": "data", "mountPath": "/data", "subPath": "a"}, {"name": "host", "mountPath": "/h", "readOnly": true},
                        {"name": "conf", "mountPath": "/conf"},
                    ]},
                    {"name": "log"},
                ],
                "volumes": [
                    {"name": "data", "emptyDir": {}}, {"name": "host", "hostPath": {"path": "/srv"}},
                    {"name": "conf", "configMap": {"name": "c"}}, {"name": "other", "emptyDir": {}},
                ],
                "securityContext": {"supplementalGroups": [7], "fsGroup": 8}},
        }))
        .expect("a pod");
        let spec = pod.spec.as_ref().expect("a spec");
        let (means, dir) = (Means { root: true, landlock: Some(3), limits: None }, PodDir::new("/pod"));
        let (container, image) = (&spec.containers[0], &Image { dir: Some("/opt/web".to_owned()), ..Image::default() });
        Wish { pod: &pod, spec, container, image, dir: &dir, means: &means }.bounds()
    }

    #[test]
    fn rlimits_are_soft_and_hard_for_all_or_for_one() {
        let check = |annotations: Value, expected: Result<&str, &str>| {
            let shown = |limit: Option<u64>| limit.map_or_else(|| "unlimited".to_owned(), |limit| limit.to_string());
            let found = bounds(&annotations, &json!({})).map(|bounds| {
                let limits = bounds.rlimits.iter();
                let texts = limits.map(|it| format!("{}={}:{}", it.name, shown(it.soft), shown(it.hard)));
                texts.collect::<Vec<_>>().join(" ")
            });
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{annotations}");
        };
        let all = |text: &str| json!({"sluice.dev/rlimits": text});
        check(json!({}), Ok(""));
        check(all("nofile=4096, core=0"), Ok("nofile=4096:4096 core=0:0"));
        check(all("nofile=1Ki:unlimited,"), Ok("nofile=1024:unlimited"));
        check(json!({"sluice.dev/rlimits": "core=0", "rlimits.sluice.dev/web": "core=1"}), Ok("core=1:1"));
        check(json!({"rlimits.sluice.dev/log": "core=0"}), Ok(""));
        check(
            json!({"rlimits.sluice.dev/wbe": "core=0"}),
            Err("annotation `rlimits.sluice.dev/wbe` names no container of this pod"),
        );
        check(
            all("files=3"),
            Err("annotation `sluice.dev/rlimits`: \"files=3\" is none of as, core, cpu, data, fsize, locks, memlock, \
                msgqueue, nice, nofile, nproc, rss, rtprio, rttime, sigpending, stack"),
        );
        check(
            all("nofile"),
            Err("annotation `sluice.dev/rlimits`: \"nofile\" is not of the form NAME=VALUE or NAME=SOFT:HARD"),
        );
        let above = "annotation `sluice.dev/rlimits`: \"nofile=5:4\" has a soft limit above its hard one";
        check(all("nofile=5:4"), Err(above));
        check(
            all("nofile=many"),
            Err(
                "annotation `sluice.dev/rlimits`: \"nofile=many\" has `many`, which is neither a whole number, nor one \
                like 4Ki, nor `unlimited`",
            ),
        );
    }

    #[test]
    fn groups_and_privileges_are_those_of_the_manifest() {
        let found = bounds(&json!({}), &json!({"allowPrivilegeEscalation": false})).expect("bounds");
        assert_eq!((found.groups, found.no_new_privileges), (vec![7, 8], true));
        assert!(!bounds(&json!({}), &json!({})).expect("bounds").no_new_privileges);
    }

    #[test]
    fn a_confined_process_is_left_what_is_its_own() {
        let check = |annotations: Value, read_only: bool, expected: Result<&str, &str>| {
            let found = bounds(&annotations, &json!({"readOnlyRootFilesystem": read_only})).map(|bounds| {
                let Some(reach) = bounds.reach else { return "all".to_owned() };
                let shown = reach.places.iter().map(|place| {
                    let sub_path =
                        place.sub_path.iter().map(|path| format!("[{}]", path.display())).collect::<String>();
                    let access = if place.writable { "w" } else { "r" };
                    format!("{}{sub_path}:{access}", place.path.display())
                });
                let machine = if reach.machine { vec!["/:r".to_owned()] } else { Vec::new() };
                machine.into_iter().chain(shown).collect::<Vec<_>>().join(" ")
            });
            assert_eq!(found.as_deref().map_err(String::as_str), expected, "{annotations}");
        };
        let own = "/pod/stdio/web.stdout:w /pod/stdio/web.stderr:w /pod/stdio/web.hook:w /pod/containers/web:w /opt/web:r \
                   /pod/volumes/data[a]:w /srv:r /pod/volumes/conf:r";
        let confine = |value: &str| json!({"sluice.dev/confine": value});
        check(json!({}), false, Ok("all"));
        check(confine("false"), false, Ok("all"));
        check(confine("true"), false, Ok(own));
        check(json!({"sluice.dev/confine": "true", "confine.sluice.dev/web": "false"}), false, Ok("all"));
        check(json!({"confine.sluice.dev/web": "true"}), true, Ok(own));
        check(json!({}), true, Ok(&format!("/:r {own}")));
        check(confine("yes"), false, Err("annotation `sluice.dev/confine`: \"yes\" is neither true nor false"));
        let kept = bounds(&confine("true"), &json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN"]}}));
        assert_eq!(kept.expect("bounds").capabilities, Some(vec!["CAP_CHOWN".to_owned()]));
    }

    #[test]
    fn nobody_is_left_unconfined_in_silence() {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": "p", "annotations": {"sluice.dev/confine": "true"}},
            "spec": {"containers": [{"name": "web", "securityContext": {"readOnlyRootFilesystem": true}}]},
        }))
        .expect("a pod");
        let with = |landlock| Means { landlock, ..Means::default() };
        let container = &pod.spec.as_ref().expect("a spec").containers[0];
        let told = files(&pod, container, &with(None)).expect_err("no Landlock");
        assert!(
            told.starts_with("annotation `sluice.dev/confine` cannot be met: this kernel has no Landlock"),
            "{told}"
        );
        assert_eq!(files(&Pod::default(), container, &with(None)), Ok(Files::All), "an event names the field");
        let gaps = [None, Some(1), Some(2), Some(3)].map(|version| with(version).gap(&pod).is_some());
        assert_eq!(gaps, [false, true, true, false]);
    }
}
