//! From a pod's object to the plan that its supervisor runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Lifecycle, LifecycleHandler, Pod, PodSpec};
use kube::ResourceExt as _;
use sluice_pod::{
    bounds::Bounds,
    confinement::{Confinement, Sandbox},
    plan::{Command, ContainerPlan, ExitCodes, Hook, Launch, PLAN_VERSION, PodPlan, RestartPolicy, Role},
    pod_dir::{PASSAGE_DIR, PRIVATE_DIR, PodDir, make_dir},
};

use super::{
    bounds::{self, Files, Means},
    confine::{DEFAULT_PATH, Wish},
    downward::Facts,
    env,
    expand::expand,
    images::{Image, Images},
    options::{NodeOptions, pod_log_dir},
    probes::port,
    pulls::{self, Found, Pulls, Withheld},
    resources::pod_resources,
    service_env, signals,
    sources::Sources,
    status::init_role,
    volumes,
};

/// The port of a container that declares none.
const DEFAULT_PORT: i32 = 8080;
/// What a process sees of the engine's own environment: enough to find programs and write text, nothing secret.
const INHERITED: [&str; 8] = ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR"];

/// Everything that a plan is made from.
pub(super) struct Preparation<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a PodSpec,
    pub(super) dir: &'a PodDir,
    pub(super) facts: &'a Facts,
    pub(super) sources: &'a Sources,
    pub(super) images: &'a Images,
    pub(super) pulls: &'a Pulls,
    pub(super) options: &'a NodeOptions,
    pub(super) means: &'a Means,
    /// Present when the pod runs in containers.
    pub(super) sandbox: Option<Sandbox>,
}

impl Preparation<'_> {
    pub(super) fn plan(&self) -> PodPlan {
        let inits = self.spec.init_containers.iter().flatten().map(|container| (container, init_role(container)));
        let apps = self.spec.containers.iter().map(|container| (container, Role::App));
        let (namespace, name, uid) =
            (self.pod.namespace().unwrap_or_default(), self.pod.name_any(), self.pod.uid().unwrap_or_default());
        PodPlan {
            version: PLAN_VERSION,
            restart_policy: restart_policy(self.spec.restart_policy.as_deref().unwrap_or_default()),
            grace_seconds: self.spec.termination_grace_period_seconds.unwrap_or(30).max(0).unsigned_abs(),
            log_dir: pod_log_dir(&self.options.logs_dir(), &namespace, &name, &uid),
            containers: inits.chain(apps).map(|(container, role)| self.container(container, role)).collect(),
            namespace,
            name,
            uid,
            sandbox: self.sandbox.clone(),
            resources: (self.sandbox.is_none() && self.means.limits.is_some()).then(|| pod_resources(self.spec)),
        }
    }

    fn container(&self, container: &Container, role: Role) -> ContainerPlan {
        let lifecycle = container.lifecycle.as_ref();
        let hook = |pick: fn(&Lifecycle) -> Option<&LifecycleHandler>| {
            lifecycle.and_then(pick).map(|handler| self.hook(container, handler))
        };
        let wanted_signal = lifecycle.and_then(|lifecycle| lifecycle.stop_signal.as_deref());
        ContainerPlan {
            name: container.name.clone(),
            role,
            image: container.image.clone().unwrap_or_default(),
            launch: self.launch(container),
            post_start: hook(|lifecycle| lifecycle.post_start.as_ref()),
            pre_stop: hook(|lifecycle| lifecycle.pre_stop.as_ref()),
            stop_signal: wanted_signal.and_then(signals::number),
            startup_probe: container.startup_probe.is_some(),
            restart_policy: container.restart_policy.as_deref().map(restart_policy),
            restart_after: restart_after(container),
            termination_file: self.dir.termination_file(&container.name),
            termination_from_logs: container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError"),
            stdin: container.stdin == Some(true),
            stdin_once: container.stdin_once == Some(true),
            tty: container.tty == Some(true),
        }
    }

    /// How to start a container, or why it cannot be started now.
    pub(super) fn launch(&self, container: &Container) -> Launch {
        match self.command(container) {
            Ok(command) => Launch::Ready(command),
            Err((reason, message)) => Launch::Withheld { reason: reason.to_owned(), message },
        }
    }

    /// A command of this machine, or in a container the image of a registry; whether it was pulled just now.
    fn image(&self, container: &Container) -> Result<(Image, bool), Withheld> {
        let name = container.image.as_deref().unwrap_or_default();
        let rootless = self.sandbox.as_ref().is_some_and(|sandbox| sandbox.holder.is_some());
        if rootless && self.images.is_process(name) {
            let message =
                format!("image \"{name}\" stands for this machine's own files, which take root in a container");
            return Err(("CreateContainerError", message));
        }
        if self.sandbox.is_none() || self.images.is_process(name) {
            let unknown = match self.images.resolve(name, &self.options.exe) {
                Ok(image) => return Ok((image, false)),
                Err(error) => error.to_string(),
            };
            pulls::parse(name)?;
            return Err(match container.image_pull_policy.as_deref() {
                Some("Never") => pulls::never(name),
                _ => ("ErrImagePull", unknown),
            });
        }
        let Found { image, pulled } = self.pulls.look(self.pod, container)?;
        if image.layers.is_empty() {
            return Err(("CreateContainerError", format!("image \"{name}\" has no files")));
        }
        Ok((Image::from(image), pulled))
    }

    fn command(&self, container: &Container) -> Result<Command, Withheld> {
        let name = container.image.as_deref().unwrap_or_default();
        let (image, pulled) = self.image(container)?;
        let user = user(self.spec, container, &image.user, self.sandbox.is_some() || is_root()).map_err(|why| {
            let (pod, uid) = (self.pod.name_any(), self.pod.uid().unwrap_or_default());
            let namespace = self.pod.namespace().unwrap_or_default();
            let place = format!("(pod: \"{pod}_{namespace}({uid})\", container: {})", container.name);
            ("CreateContainerConfigError", format!("{why} {place}"))
        })?;
        let given = self.given(container, &image).into_iter().chain(service_env::variables(self.sources.services()));
        let env = env::resolve(self.pod, container, self.facts, self.sources, &given.collect::<Vec<_>>())
            .map_err(|error| ("CreateContainerConfigError", error.to_string()))?;
        let argv = argv(container, &image.entrypoint, &image.arguments, &env);
        if argv.is_empty() {
            let message = format!(
                "no command specified: image \"{name}\" stands for this machine, so the container must say what to run"
            );
            return Err(("CreateContainerError", message));
        }
        if self.sandbox.is_none() {
            volumes::make_sub_paths(self.pod, self.dir, container)
                .map_err(|why| ("CreateContainerConfigError", why))?;
        }
        let own = match self.sandbox {
            None => self.work_dir(container, user),
            // Its own files are elsewhere; only its last words lie here.
            Some(_) => fs::create_dir_all(self.dir.container(&container.name)).map(|()| PathBuf::from("/")),
        };
        let own = own.map_err(|error| ("CreateContainerError", error.to_string()))?;
        let confinement = self
            .confinement(container, &image, &env)
            .map_err(|error| ("CreateContainerConfigError", error))?
            .map(Box::new);
        let bounds = self.sandbox.is_none().then(|| self.bounds(container, &image)).transpose();
        let bounds = bounds.map_err(|error| ("CreateContainerConfigError", error))?;
        // Under all that the manifest says, and nothing of it is to be seen in `$(NAME)`.
        let of_image = self.of_image(&image).into_iter().collect::<BTreeMap<_, _>>();
        let env = of_image.into_iter().filter(|(name, _)| !env.contains_key(name)).chain(env.clone()).collect();
        let stop_signal = signals::number(&image.stop_signal);
        let dir = container.working_dir.clone().filter(|dir| !dir.is_empty()).or(image.dir).map_or(own, PathBuf::from);
        Ok(Command { argv, env, dir, pulled, stop_signal, uid: user.0, gid: user.1, confinement, bounds })
    }

    fn confinement(
        &self,
        container: &Container,
        image: &Image,
        env: &BTreeMap<String, String>,
    ) -> Result<Option<Confinement>, String> {
        if self.sandbox.is_none() {
            return Ok(None);
        }
        let wish = Wish {
            pod: self.pod,
            spec: self.spec,
            container,
            image,
            dir: self.dir,
            data_dir: &self.options.data_dir,
            env,
            facts: self.facts,
        };
        wish.confinement().map(Some)
    }

    fn bounds(&self, container: &Container, image: &Image) -> Result<Box<Bounds>, String> {
        let (pod, spec, dir, means) = (self.pod, self.spec, self.dir, self.means);
        let wish = bounds::Wish { pod, spec, container, image, dir, means };
        wish.bounds().map(Box::new)
    }

    /// What an image with files of its own has in its environment, and what is told to any of these.
    fn of_image(&self, image: &Image) -> Vec<(String, String)> {
        let hostname = self.sandbox.as_ref().map_or_else(|| self.pod.name_any(), |sandbox| sandbox.hostname.clone());
        let own = [("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("HOSTNAME".to_owned(), hostname)];
        let own = own.into_iter().filter(|_| !image.layers.is_empty());
        own.chain(image.env.clone()).collect()
    }

    /// What every process is told of its place. An image of its own knows nothing of ours, and is told no more than anywhere.
    fn given(&self, container: &Container, image: &Image) -> Vec<(String, String)> {
        if !image.layers.is_empty() {
            return Vec::new();
        }
        let mut env: Vec<(String, String)> =
            INHERITED.iter().filter_map(|name| Some(((*name).to_owned(), std::env::var(name).ok()?))).collect();
        let ip = self.facts.pod_ip.to_string();
        let port = container.ports.iter().flatten().next().map_or(DEFAULT_PORT, |port| port.container_port);
        let termination = match (&self.sandbox, &container.termination_message_path) {
            (None, _) => self.dir.termination_file(&container.name).to_string_lossy().into_owned(),
            (Some(_), path) => path.clone().unwrap_or_else(|| "/dev/termination-log".to_owned()),
        };
        env.extend(
            [
                ("HOSTNAME", self.pod.name_any()),
                ("POD_NAME", self.pod.name_any()),
                ("POD_NAMESPACE", self.pod.namespace().unwrap_or_default()),
                ("POD_IP", ip.clone()),
                ("HOST", ip),
                ("PORT", port.to_string()),
                ("SLUICE_TERMINATION_LOG", termination),
            ]
            .map(|(name, value)| (name.to_owned(), value)),
        );
        if self.sandbox.is_some() {
            let path = std::env::var("PATH").unwrap_or_else(|_| DEFAULT_PATH.to_owned());
            env.push(("PATH".to_owned(), path));
        }
        // What it cannot write to is no home, and no place for what it will not keep.
        if self.sandbox.is_none() && !matches!(bounds::files(self.pod, container, self.means), Ok(Files::All)) {
            let (home, temporary) = (self.dir.work(&container.name), self.dir.temporary(&container.name));
            env.push(("HOME".to_owned(), home.to_string_lossy().into_owned()));
            env.push(("TMPDIR".to_owned(), temporary.to_string_lossy().into_owned()));
        }
        env.extend(volumes::places(self.pod, self.dir, container, self.sandbox.is_some()));
        env
    }

    /// A place of its own for what a process writes into its working directory, and beside it for its last words.
    fn work_dir(&self, container: &Container, (uid, gid): (Option<u32>, Option<u32>)) -> std::io::Result<PathBuf> {
        let (own, dir) = (self.dir.container(&container.name), self.dir.work(&container.name));
        own.parent().map_or(Ok(()), |all| make_dir(all, PASSAGE_DIR))?;
        make_dir(&own, PRIVATE_DIR)?;
        let temporary = self.dir.temporary(&container.name);
        for made in [&dir, &temporary] {
            fs::create_dir_all(made)?;
        }
        if uid.is_some() || gid.is_some() {
            [&own, &dir, &temporary].into_iter().try_for_each(|own| chown(own, uid, gid))?;
        }
        match uid.map(|uid| (uid, closed_to(&dir, uid))) {
            Some((uid, Some(closed))) => Err(std::io::Error::other(format!(
                "user {uid} may not pass through `{}`: allow it with `chmod o+x`, or leave out runAsUser",
                closed.display()
            ))),
            _ => Ok(dir),
        }
    }

    fn hook(&self, container: &Container, handler: &LifecycleHandler) -> Hook {
        if let Some(exec) = &handler.exec {
            return Hook::Exec { command: exec.command.clone().unwrap_or_default() };
        }
        if let Some(sleep) = &handler.sleep {
            return Hook::Sleep { seconds: sleep.seconds.max(0).unsigned_abs() };
        }
        let Some(get) = &handler.http_get else {
            // `tcpSocket` is in the API for old manifests alone: no kubelet runs it, and each lets the hook fail.
            return Hook::Invalid {
                problem: "Cannot run handler: invalid handler: tcpSocket is not supported".to_owned(),
            };
        };
        let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        Hook::Http {
            address: get.host.clone().filter(|host| !host.is_empty()).unwrap_or_else(|| self.facts.pod_ip.to_string()),
            // A port that cannot be found is 0, where nobody listens: the hook fails and says so.
            port: port(container, &get.port).unwrap_or_default(),
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: get
                .http_headers
                .iter()
                .flatten()
                .map(|header| (header.name.clone(), header.value.clone()))
                .collect(),
        }
    }
}

/// The ids to run under: those of the manifest if they are `ours` to give, our own otherwise. An image that names a user is
/// judged where its files are.
fn user(
    spec: &PodSpec,
    container: &Container,
    image_user: &str,
    ours: bool,
) -> Result<(Option<u32>, Option<u32>), String> {
    let (own, pods) = (container.security_context.as_ref(), spec.security_context.as_ref());
    let uid = own.and_then(|own| own.run_as_user).or_else(|| pods?.run_as_user);
    let gid = own.and_then(|own| own.run_as_group).or_else(|| pods?.run_as_group);
    let non_root = own.and_then(|own| own.run_as_non_root).or_else(|| pods?.run_as_non_root) == Some(true);
    let image_is_root = matches!(image_user.split(':').next().unwrap_or_default(), "" | "0" | "root");
    match uid {
        Some(0) if non_root => return Err("container's runAsUser breaks non-root policy".to_owned()),
        None if non_root && ours && image_is_root => {
            return Err("container has runAsNonRoot and image will run as root".to_owned());
        }
        _ => {}
    }
    if !ours {
        return Ok((None, None));
    }
    let number = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
    Ok((number(uid), number(gid)))
}

/// Those who run in a pod and are not us.
pub(super) fn other_users(spec: &PodSpec) -> BTreeSet<u32> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.filter_map(|container| user(spec, container, "", is_root()).ok()?.0).filter(|uid| *uid != 0).collect()
}

/// Of the machine: in a user namespace, containers have ids of their own anyway.
fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// `command` replaces the image's program and its arguments, `args` only the latter.
fn argv(
    container: &Container,
    entrypoint: &[String],
    arguments: &[String],
    env: &BTreeMap<String, String>,
) -> Vec<String> {
    let filled = |list: &Option<Vec<String>>| list.clone().filter(|list| !list.is_empty());
    let expanded = |list: Vec<String>| {
        list.into_iter().map(|word| expand(&word, |name| env.get(name).cloned())).collect::<Vec<_>>()
    };
    let (command, args) = (filled(&container.command), filled(&container.args));
    let rest = match (&command, args) {
        (_, Some(args)) => expanded(args),
        (Some(_), None) => Vec::new(),
        (None, None) => arguments.to_vec(),
    };
    command.map_or_else(|| entrypoint.to_vec(), expanded).into_iter().chain(rest).collect()
}

/// The first directory on the way to `path` that a user may not pass through.
fn closed_to(path: &Path, uid: u32) -> Option<&Path> {
    let open = |dir: &Path| {
        let Ok(metadata) = fs::metadata(dir) else { return false };
        let bit = if metadata.uid() == uid { 0o100 } else { 0o001 };
        uid == 0 || metadata.mode() & bit != 0
    };
    let mut way: Vec<&Path> = path.ancestors().collect();
    way.reverse();
    way.into_iter().find(|dir| !open(dir))
}

fn restart_policy(name: &str) -> RestartPolicy {
    match name {
        "Never" => RestartPolicy::Never,
        "OnFailure" => RestartPolicy::OnFailure,
        _ => RestartPolicy::Always,
    }
}

/// The exit codes of `restartPolicyRules`, all of which say `Restart`.
fn restart_after(container: &Container) -> Vec<ExitCodes> {
    let rules = container.restart_policy_rules.iter().flatten().filter(|rule| rule.action == "Restart");
    rules
        .filter_map(|rule| {
            let codes = rule.exit_codes.as_ref()?;
            let values = codes.values.clone().unwrap_or_default();
            Some(if codes.operator == "NotIn" { ExitCodes::NotIn(values) } else { ExitCodes::In(values) })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restart_rules_are_exit_codes() {
        let container = serde_json::json!({"name": "c", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}},
            {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [0, 1]}},
        ]});
        let container: Container = serde_json::from_value(container).expect("a container");
        assert_eq!(restart_after(&container), [ExitCodes::In(vec![42]), ExitCodes::NotIn(vec![0, 1])]);
        use RestartPolicy::{Always, Never, OnFailure};
        assert_eq!(["Never", "OnFailure", "Always", ""].map(restart_policy), [Never, OnFailure, Always, Always]);
    }

    #[test]
    fn root_is_refused_where_the_manifest_does_not_want_it() {
        let we_are_root = is_root();
        let check = |pod: serde_json::Value, own: serde_json::Value, image_user: &str, expected: Result<(), &str>| {
            let spec = serde_json::json!({"containers": [], "securityContext": pod});
            let container = serde_json::json!({"name": "c", "securityContext": own});
            let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
            let container: Container = serde_json::from_value(container).expect("a container");
            let got = user(&spec, &container, image_user, is_root()).map(drop);
            assert_eq!(got.as_ref().map_err(String::as_str).copied(), expected, "{spec:?} {container:?} {image_user}");
        };
        let (none, non_root) = (serde_json::json!({}), serde_json::json!({"runAsNonRoot": true}));
        let by_image = if we_are_root { Err("container has runAsNonRoot and image will run as root") } else { Ok(()) };
        check(none.clone(), none.clone(), "", Ok(()));
        for root in ["", "0", "root:web", "0:0"] {
            check(non_root.clone(), none.clone(), root, by_image);
            check(none.clone(), non_root.clone(), root, by_image);
        }
        check(non_root.clone(), none.clone(), "nginx", Ok(()));
        check(non_root.clone(), serde_json::json!({"runAsNonRoot": false}), "", Ok(()));
        check(non_root.clone(), serde_json::json!({"runAsUser": 1000}), "", Ok(()));
        let breaks = Err("container's runAsUser breaks non-root policy");
        check(non_root, serde_json::json!({"runAsUser": 0}), "nginx", breaks);
    }

    #[test]
    fn a_closed_directory_is_named() {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let inner = directory.path().join("a/b");
        fs::create_dir_all(&inner).expect("directories");
        let set =
            |mode| fs::set_permissions(directory.path(), fs::Permissions::from_mode(mode)).expect("our own directory");
        // User 1 owns nothing here.
        set(0o700);
        assert_eq!(closed_to(&inner, 1), Some(directory.path()));
        set(0o711);
        assert_eq!(closed_to(&inner, 1), None);
        assert_eq!(closed_to(&inner, 0), None);
    }

    #[test]
    fn commands_replace_programs_and_args_replace_arguments() {
        let env = [("N".to_owned(), "7".to_owned())].into();
        let check = |container: serde_json::Value, expected: &str| {
            let container: Container = serde_json::from_value(container).expect("a container");
            let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(argv(&container, &words("prog"), &words("-a -b"), &env).join(" "), expected);
        };
        check(serde_json::json!({"name": "c"}), "prog -a -b");
        check(serde_json::json!({"name": "c", "args": ["-n", "$(N)"]}), "prog -n 7");
        check(serde_json::json!({"name": "c", "command": ["sh", "$(N)$(X)"]}), "sh 7$(X)");
        check(serde_json::json!({"name": "c", "command": ["sh"], "args": ["-c", "x"]}), "sh -c x");
    }
}
