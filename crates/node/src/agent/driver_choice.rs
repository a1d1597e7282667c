//! Which driver runs a pod: what the pod asks for, what the node was told, what its images need, what the machine can do.

use k8s_openapi::api::core::v1::PodSpec;
use sluice_pod::features::Feature;

use super::options::Driver;

/// What a pod is run by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Process,
    Container,
}

/// How this node makes containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Containers {
    /// As root.
    Root,
    /// In a user namespace.
    Rootless,
    Impossible(Obstacle),
}

/// What a machine that runs no containers lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Obstacle {
    Overlay,
    /// Neither root with everything that belongs to it, nor user namespaces.
    Privilege,
}

impl Obstacle {
    fn told(self) -> String {
        match self {
            Self::Overlay => Feature::Overlay.missing(),
            Self::Privilege => {
                "it takes root with CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_SETPCAP, or user namespaces for other users \
                                (sysctls user.max_user_namespaces, kernel.unprivileged_userns_clone and \
                                kernel.apparmor_restrict_unprivileged_userns)"
                    .to_owned()
            }
        }
    }
}

impl Containers {
    /// What this machine lets us do: `exe` is tried in a user namespace where root is missing. Says once what it is.
    pub(super) fn find_out(exe: &std::path::Path) -> Self {
        let privileged = root_with_everything();
        if !overlay_known() {
            tracing::warn!(why = Obstacle::Overlay.told(), "No containers here: pods run as processes");
            return Self::Impossible(Obstacle::Overlay);
        }
        if privileged {
            return Self::Root;
        }
        match std::process::Command::new(exe)
            .args(["pods-holder", "--probe"])
            .stdin(std::process::Stdio::null())
            .output()
        {
            Ok(tried) if tried.status.success() => {
                tracing::info!("Containers run without root here, in a user namespace");
                Self::Rootless
            }
            Ok(tried) => {
                let why = String::from_utf8_lossy(&tried.stderr).trim().to_owned();
                tracing::warn!(why, "No containers here (they take root or user namespaces): pods run as processes");
                Self::Impossible(Obstacle::Privilege)
            }
            Err(error) => {
                tracing::warn!(%error, "No containers here: pods run as processes");
                Self::Impossible(Obstacle::Privilege)
            }
        }
    }
}

/// A kernel loads the module when root asks for the first time.
fn overlay_known() -> bool {
    let listed = std::fs::read_to_string("/proc/filesystems").is_ok_and(|known| known.contains("\toverlay"));
    listed || rustix::mount::fsopen("overlay", rustix::mount::FsOpenFlags::FSOPEN_CLOEXEC).is_ok()
}

/// Namespaces, mounts and a network of the machine's own take root with everything that belongs to it.
fn root_with_everything() -> bool {
    use rustix::thread::CapabilitySet;
    let needed = CapabilitySet::SYS_ADMIN | CapabilitySet::NET_ADMIN | CapabilitySet::SETPCAP;
    let held = rustix::thread::capabilities(None).is_ok_and(|held| held.effective.contains(needed));
    rustix::process::geteuid().is_root() && held
}

/// `all_known` says that each image of the pod is a process image of this node.
pub(super) fn choose(driver: Driver, spec: &PodSpec, all_known: bool, containers: Containers) -> Result<Kind, String> {
    let obstacle = match containers {
        Containers::Root | Containers::Rootless => None,
        Containers::Impossible(obstacle) => Some(obstacle),
    };
    let asked = match (spec.runtime_class_name.as_deref(), driver) {
        (Some("process"), _) | (None, Driver::Process) => Kind::Process,
        (Some("container"), _) | (None, Driver::Container) => Kind::Container,
        (Some(other), _) => {
            return Err(format!("RuntimeClass \"{other}\" is not one of this node's: use process or container"));
        }
        // Process images are programs of this machine and stay what they were.
        (None, Driver::Auto) if all_known || obstacle.is_some() => Kind::Process,
        (None, Driver::Auto) => Kind::Container,
    };
    if let (Kind::Container, Some(obstacle)) = (asked, obstacle) {
        return Err(format!("this node runs no containers: {}", obstacle.told()));
    }
    if asked == Kind::Container && spec.host_users == Some(false) {
        return Err("hostUsers: false is not supported: containers of this node run as users of the machine".to_owned());
    }
    Ok(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_runs_as_it_asks_then_as_the_node_says_then_as_its_images_need() {
        let check = |class: Option<&str>, driver, all_known, possible, expected| {
            let spec = PodSpec { runtime_class_name: class.map(str::to_owned), ..PodSpec::default() };
            let containers = if possible { Containers::Rootless } else { Containers::Impossible(Obstacle::Privilege) };
            assert_eq!(choose(driver, &spec, all_known, containers).ok(), expected, "{class:?} {driver:?}");
        };
        check(None, Driver::Auto, true, true, Some(Kind::Process));
        check(None, Driver::Auto, false, true, Some(Kind::Container));
        check(None, Driver::Auto, false, false, Some(Kind::Process));
        check(None, Driver::Container, true, true, Some(Kind::Container));
        check(None, Driver::Container, true, false, None);
        check(None, Driver::Process, false, true, Some(Kind::Process));
        check(Some("container"), Driver::Process, true, true, Some(Kind::Container));
        check(Some("process"), Driver::Container, true, true, Some(Kind::Process));
        check(Some("gvisor"), Driver::Auto, true, true, None);
    }

    #[test]
    fn a_machine_without_containers_says_what_it_lacks() {
        let told = |obstacle| {
            choose(Driver::Container, &PodSpec::default(), false, Containers::Impossible(obstacle)).expect_err("none")
        };
        let overlay = told(Obstacle::Overlay);
        assert!(
            overlay.starts_with("this node runs no containers: the kernel lacks `overlay`: load the module"),
            "{overlay}"
        );
        let privilege = told(Obstacle::Privilege);
        assert!(privilege.contains("CAP_SYS_ADMIN") && privilege.contains("user.max_user_namespaces"), "{privilege}");
    }

    #[test]
    fn a_pod_that_wants_its_own_users_is_not_run_as_others() {
        let spec = PodSpec { host_users: Some(false), ..PodSpec::default() };
        let told = choose(Driver::Auto, &spec, false, Containers::Root).expect_err("no user namespaces");
        assert!(told.starts_with("hostUsers: false is not supported"), "{told}");
        assert_eq!(
            choose(Driver::Auto, &spec, true, Containers::Root),
            Ok(Kind::Process),
            "a process has the machine's users anyway"
        );
    }
}
