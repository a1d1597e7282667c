//! From a pod's object to the plan that its supervisor runs.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::{MetadataExt as _, chown},
    path::{Path, PathBuf},
};

use k8s_openapi::api::core::v1::{Container, Lifecycle, LifecycleHandler, Pod, PodSpec};
use kube::ResourceExt as _;

use super::{
    confine::{DEFAULT_PATH, Wish},
    downward::Facts,
    env,
    expand::expand,
    images::{Image, Images},
    options::{NodeOptions, pod_log_dir},
    probes::port,
    pulls::Pulls,
    service_env,
    sources::Sources,
    status::init_role,
    volumes,
};
use crate::{
    confinement::{Confinement, Sandbox},
    plan::{Command, ContainerPlan, Hook, Launch, PLAN_VERSION, PodPlan, RestartPolicy, Role},
    pod_dir::{PASSAGE_DIR, PRIVATE_DIR, PodDir, make_dir},
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
            restart_policy: match self.spec.restart_policy.as_deref() {
                Some("Never") => RestartPolicy::Never,
                Some("OnFailure") => RestartPolicy::OnFailure,
                _ => RestartPolicy::Always,
            },
            grace_seconds: self.spec.termination_grace_period_seconds.unwrap_or(30).max(0).unsigned_abs(),
            log_dir: pod_log_dir(&self.options.logs_dir(), &namespace, &name, &uid),
            containers: inits.chain(apps).map(|(container, role)| self.container(container, role)).collect(),
            namespace,
            name,
            uid,
            sandbox: self.sandbox.clone(),
        }
    }

    fn container(&self, container: &Container, role: Role) -> ContainerPlan {
        let lifecycle = container.lifecycle.as_ref();
        let hook = |pick: fn(&Lifecycle) -> Option<&LifecycleHandler>| {
            lifecycle.and_then(pick).and_then(|handler| self.hook(container, handler))
        };
        ContainerPlan {
            name: container.name.clone(),
            role,
            image: container.image.clone().unwrap_or_default(),
            launch: self.launch(container),
            post_start: hook(|lifecycle| lifecycle.post_start.as_ref()),
            pre_stop: hook(|lifecycle| lifecycle.pre_stop.as_ref()),
            stop_signal: lifecycle.and_then(|lifecycle| signal_number(lifecycle.stop_signal.as_deref()?)),
            startup_probe: container.startup_probe.is_some(),
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

    /// A command of this machine, or in a container the image of a registry.
    fn image(&self, container: &Container) -> Result<Image, (&'static str, String)> {
        let name = container.image.as_deref().unwrap_or_default();
        if self.sandbox.is_none() || self.images.is_process(name) {
            return self.images.resolve(name, &self.options.exe).map_err(|error| ("ErrImagePull", error.to_string()));
        }
        let image = self.pulls.look(self.pod, container)?;
        if image.layers.is_empty() {
            return Err(("CreateContainerError", format!("image \"{name}\" has no files")));
        }
        Ok(Image::from(image))
    }

    fn command(&self, container: &Container) -> Result<Command, (&'static str, String)> {
        let name = container.image.as_deref().unwrap_or_default();
        let image = self.image(container)?;
        let named = !image.user.is_empty();
        let user = user(self.spec, container, named).map_err(|error| ("CreateContainerConfigError", error))?;
        let services = service_env::variables(self.sources.services());
        let given = services.into_iter().chain(self.given(container, &image)).chain(image.env.clone());
        let given: Vec<(String, String)> = given.collect();
        let env = env::resolve(self.pod, container, self.facts, self.sources, &given)
            .map_err(|error| ("CreateContainerConfigError", error.to_string()))?;
        let argv = argv(container, &image.entrypoint, &image.arguments, &env);
        if argv.is_empty() {
            let message = format!(
                "no command specified: image \"{name}\" stands for this machine, so the container must say what to run"
            );
            return Err(("CreateContainerError", message));
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
        let dir = container.working_dir.clone().filter(|dir| !dir.is_empty()).or(image.dir).map_or(own, PathBuf::from);
        Ok(Command { argv, env: env.into_iter().collect(), dir, uid: user.0, gid: user.1, confinement })
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

    /// What every process is told of its place. An image of its own knows nothing of ours, and is told no more than anywhere.
    fn given(&self, container: &Container, image: &Image) -> Vec<(String, String)> {
        if !image.layers.is_empty() {
            let hostname =
                self.sandbox.as_ref().map_or_else(|| self.pod.name_any(), |sandbox| sandbox.hostname.clone());
            return vec![("PATH".to_owned(), DEFAULT_PATH.to_owned()), ("HOSTNAME".to_owned(), hostname)];
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
        env.extend(volumes::places(self.pod, self.dir, container, self.sandbox.is_some()));
        env
    }

    /// A place of its own for what a process writes into its working directory, and beside it for its last words.
    fn work_dir(&self, container: &Container, (uid, gid): (Option<u32>, Option<u32>)) -> std::io::Result<PathBuf> {
        let (own, dir) = (self.dir.container(&container.name), self.dir.work(&container.name));
        own.parent().map_or(Ok(()), |all| make_dir(all, PASSAGE_DIR))?;
        make_dir(&own, PRIVATE_DIR)?;
        fs::create_dir_all(&dir)?;
        if uid.is_some() || gid.is_some() {
            chown(&own, uid, gid)?;
            chown(&dir, uid, gid)?;
        }
        match uid.map(|uid| (uid, closed_to(&dir, uid))) {
            Some((uid, Some(closed))) => Err(std::io::Error::other(format!(
                "user {uid} may not pass through `{}`: allow it with `chmod o+x`, or leave out runAsUser",
                closed.display()
            ))),
            _ => Ok(dir),
        }
    }

    /// `None` for handlers that no kubelet runs either.
    fn hook(&self, container: &Container, handler: &LifecycleHandler) -> Option<Hook> {
        if let Some(exec) = &handler.exec {
            return Some(Hook::Exec { command: exec.command.clone().unwrap_or_default() });
        }
        if let Some(sleep) = &handler.sleep {
            return Some(Hook::Sleep { seconds: sleep.seconds.max(0).unsigned_abs() });
        }
        let get = handler.http_get.as_ref()?;
        let path = get.path.as_deref().filter(|path| !path.is_empty()).unwrap_or("/");
        Some(Hook::Http {
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
        })
    }
}

/// The ids to run under: those of the manifest if we may give them, our own otherwise. An image that names a user is judged
/// where its files are.
fn user(spec: &PodSpec, container: &Container, named: bool) -> Result<(Option<u32>, Option<u32>), String> {
    let (own, pods) = (container.security_context.as_ref(), spec.security_context.as_ref());
    let uid = own.and_then(|own| own.run_as_user).or_else(|| pods?.run_as_user);
    let gid = own.and_then(|own| own.run_as_group).or_else(|| pods?.run_as_group);
    let non_root = own.and_then(|own| own.run_as_non_root).or_else(|| pods?.run_as_non_root) == Some(true);
    let we_are_root = rustix::process::geteuid().is_root();
    if non_root && (uid == Some(0) || (uid.is_none() && we_are_root && !named)) {
        return Err("container has runAsNonRoot and image will run as root".to_owned());
    }
    if !we_are_root {
        return Ok((None, None));
    }
    let number = |id: Option<i64>| id.and_then(|id| u32::try_from(id).ok());
    Ok((number(uid), number(gid)))
}

/// Those who run in a pod and are not us.
pub(super) fn other_users(spec: &PodSpec) -> BTreeSet<u32> {
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    containers.filter_map(|container| user(spec, container, false).ok()?.0).filter(|uid| *uid != 0).collect()
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

fn signal_number(name: &str) -> Option<i32> {
    let known = [
        ("SIGHUP", libc::SIGHUP),
        ("SIGINT", libc::SIGINT),
        ("SIGQUIT", libc::SIGQUIT),
        ("SIGABRT", libc::SIGABRT),
        ("SIGKILL", libc::SIGKILL),
        ("SIGUSR1", libc::SIGUSR1),
        ("SIGUSR2", libc::SIGUSR2),
        ("SIGTERM", libc::SIGTERM),
        ("SIGWINCH", libc::SIGWINCH),
    ];
    known.iter().find(|(known, _)| *known == name).map(|(_, number)| *number)
}

#[cfg(test)]
mod tests {
    use super::*;

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
