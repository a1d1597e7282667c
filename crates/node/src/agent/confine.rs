//! From a pod's object to how its containers are confined: security, limits, mounts. Pure but for the files that stand in for
//! the machine's own (`/etc/hosts` and its kin), which are written beside.

use std::net::Ipv4Addr;
use std::path::{Component, Path, PathBuf};

use k8s_openapi::api::core::v1::{
    Container, EmptyDirVolumeSource, Pod, PodSecurityContext, PodSpec, SecurityContext, VolumeMount,
};
use kube::ResourceExt as _;
use sluice_model::quantity::Quantity;
use sluice_pod::{
    confinement::{Confinement, MemoryDisk, Mount, Propagation, Root, Sandbox},
    driver::container::profile::MAX_PROFILE_BYTES,
    pod_dir::PodDir,
};

use super::{
    downward::Facts,
    expand::expand,
    images::Image,
    resources::{amount, container_resources, pod_resources},
};

/// What a container may do unless the manifest says otherwise.
const USUAL_CAPABILITIES: [&str; 14] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Below the data directory: profiles that pods may name (`seccompProfile: Localhost`).
const SECCOMP_PROFILES: &str = "seccomp";
/// What names of services end in.
const CLUSTER_DOMAIN: &str = "cluster.local";
const DEFAULT_TERMINATION_PATH: &str = "/dev/termination-log";
/// Where programs are looked for when neither image nor manifest says.
pub(super) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a confinement is made from.
pub(super) struct Wish<'a> {
    pub(super) pod: &'a Pod,
    pub(super) spec: &'a PodSpec,
    pub(super) container: &'a Container,
    pub(super) image: &'a Image,
    pub(super) dir: &'a PodDir,
    /// The engine's data, which no container looks into.
    pub(super) data_dir: &'a Path,
    pub(super) env: &'a std::collections::BTreeMap<String, String>,
    pub(super) facts: &'a Facts,
}

impl Wish<'_> {
    pub(super) fn confinement(&self) -> Result<Confinement, String> {
        let own = self.container.security_context.as_ref();
        let pods = self.spec.security_context.as_ref();
        let privileged = own.and_then(|own| own.privileged) == Some(true);
        let profile = own.and_then(|own| own.seccomp_profile.as_ref()).or_else(|| pods?.seccomp_profile.as_ref());
        let seccomp_profile = match profile {
            Some(profile) if profile.type_ == "Localhost" => {
                Some(self.profile(profile.localhost_profile.as_deref().unwrap_or_default())?)
            }
            _ => None,
        };
        let capabilities = capabilities(own)?;
        let root = match self.image.layers.is_empty() {
            true => Root::Machine,
            false => Root::Layers(self.image.layers.clone()),
        };
        Ok(Confinement {
            container: self.container.name.clone(),
            hidden: if root == Root::Machine { vec![self.data_dir.to_owned()] } else { Vec::new() },
            root,
            read_only_root: own.and_then(|own| own.read_only_root_filesystem) == Some(true),
            mounts: self.mounts(privileged)?,
            image_volumes: self.image.volumes.clone(),
            image_user: self.image.user.clone(),
            non_root: own.and_then(|own| own.run_as_non_root).or_else(|| pods?.run_as_non_root) == Some(true),
            own_groups_only: pods.and_then(|pods| pods.supplemental_groups_policy.as_deref()) == Some("Strict"),
            groups: groups(pods),
            no_new_privileges: no_new_privileges(own, privileged, &capabilities),
            capabilities,
            privileged,
            seccomp: profile.is_none_or(|profile| profile.type_ == "RuntimeDefault"),
            seccomp_profile,
            resources: container_resources(self.container),
            oom_score_adj: Some(oom_score_adj(self.pod, self.container, self.facts)),
        })
    }

    /// A profile of this machine, below the place where its owner keeps them.
    fn profile(&self, name: &str) -> Result<String, String> {
        let inside = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
        if name.is_empty() || !inside {
            return Err(format!("seccomp profile \"{name}\" must be a path below `{SECCOMP_PROFILES}`"));
        }
        let path = self.data_dir.join(SECCOMP_PROFILES).join(name);
        let text = std::fs::File::open(&path)
            .and_then(|file| std::io::read_to_string(std::io::Read::take(file, MAX_PROFILE_BYTES)));
        text.map_err(|error| format!("cannot load seccomp profile \"{}\": {error}", path.display()))
    }

    fn mounts(&self, privileged: bool) -> Result<Vec<Mount>, String> {
        let mut mounts = Vec::new();
        let own = [("/etc/hosts", "hosts"), ("/etc/hostname", "hostname"), ("/etc/resolv.conf", "resolv.conf")];
        for (target, name) in own {
            mounts.push(plain(etc(self.dir).join(name), target.into(), false));
        }
        let words = self.container.termination_message_path.as_deref().filter(|path| !path.is_empty());
        let words = words.unwrap_or(DEFAULT_TERMINATION_PATH);
        mounts.push(plain(self.dir.termination_file(&self.container.name), words.into(), false));
        for mount in self.container.volume_mounts.iter().flatten() {
            mounts.push(self.volume(mount, privileged)?);
        }
        Ok(mounts)
    }

    fn volume(&self, mount: &VolumeMount, privileged: bool) -> Result<Mount, String> {
        let propagation = match mount.mount_propagation.as_deref() {
            Some("Bidirectional") if privileged => Propagation::Bidirectional,
            Some("Bidirectional") => {
                let name = &mount.name;
                return Err(format!("volume \"{name}\": Bidirectional mount propagation takes a privileged container"));
            }
            Some("HostToContainer") => Propagation::HostToContainer,
            _ => Propagation::None,
        };
        let volume = self.spec.volumes.iter().flatten().find(|volume| volume.name == mount.name);
        let volume = volume.ok_or_else(|| format!("volume \"{}\" not found", mount.name))?;
        let content = volume.config_map.is_some()
            || volume.secret.is_some()
            || volume.projected.is_some()
            || volume.downward_api.is_some();
        let memory = volume.empty_dir.as_ref().filter(|empty| empty.medium.as_deref() == Some("Memory"));
        let claim = volume.persistent_volume_claim.as_ref().and_then(|claim| claim.read_only);
        let read_only = content || claim == Some(true) || mount.read_only == Some(true);
        let own = self.dir.volumes().join(&volume.name);
        Ok(Mount {
            source: match &volume.host_path {
                Some(host) => PathBuf::from(&host.path),
                // Claims and secrets are links to where they really lie.
                None => std::fs::read_link(&own).unwrap_or(own),
            },
            sub_path: self.sub_path(mount)?,
            target: PathBuf::from(&mount.mount_path),
            read_only,
            recursively: read_only
                && mount.recursive_read_only.as_deref().is_some_and(|recursive| recursive != "Disabled"),
            propagation,
            memory: memory.map(|empty| self.memory_disk(empty)),
        })
    }

    /// Its own limit, or what the pod may have at all.
    fn memory_disk(&self, empty: &EmptyDirVolumeSource) -> MemoryDisk {
        let own = empty.size_limit.as_ref().and_then(|limit| bytes(&limit.0)).filter(|limit| *limit > 0);
        let pods = pod_resources(self.spec).memory_bytes.and_then(|limit| u64::try_from(limit).ok());
        let group = self.spec.security_context.as_ref().and_then(|context| context.fs_group);
        MemoryDisk {
            limit_bytes: own.into_iter().chain(pods).min(),
            group: group.and_then(|group| u32::try_from(group).ok()),
        }
    }

    fn sub_path(&self, mount: &VolumeMount) -> Result<Option<PathBuf>, String> {
        let path = match (&mount.sub_path, &mount.sub_path_expr) {
            (_, Some(expression)) if !expression.is_empty() => {
                let missing = std::cell::RefCell::new(None);
                let path = expand(expression, |name| {
                    let value = self.env.get(name).cloned();
                    if value.is_none() {
                        missing.replace(Some(name.to_owned()));
                    }
                    value
                });
                if let Some(name) = missing.take() {
                    return Err(format!("missing value for \"{name}\" in subPathExpr \"{expression}\""));
                }
                path
            }
            (Some(path), _) if !path.is_empty() => path.clone(),
            _ => return Ok(None),
        };
        let path = PathBuf::from(path);
        match path.components().find(|part| !matches!(part, Component::Normal(_) | Component::CurDir)) {
            None => Ok(Some(path)),
            Some(_) => Err(format!("subPath \"{}\" must be a relative path without `..`", path.display())),
        }
    }
}

/// Where a pod's own versions of the machine's files lie.
fn etc(dir: &PodDir) -> PathBuf {
    dir.path().join("etc")
}

fn plain(source: PathBuf, target: PathBuf, read_only: bool) -> Mount {
    let propagation = Propagation::None;
    Mount { source, sub_path: None, target, read_only, recursively: false, propagation, memory: None }
}

fn bytes(text: &str) -> Option<u64> {
    text.parse::<Quantity>().ok().and_then(|quantity| u64::try_from(quantity.value()).ok())
}

/// What a pod's processes are members of beside their own group.
pub(super) fn groups(pods: Option<&PodSecurityContext>) -> Vec<u32> {
    let groups = pods.into_iter().flat_map(|pods| pods.supplemental_groups.iter().flatten().chain(&pods.fs_group));
    groups.filter_map(|group| u32::try_from(*group).ok()).collect()
}

/// The usual ones, less what is dropped, and what is added.
pub(super) fn capabilities(own: Option<&SecurityContext>) -> Result<Vec<String>, String> {
    let wish = own.and_then(|own| own.capabilities.as_ref());
    let short = |list: &Option<Vec<String>>| -> Vec<String> {
        let names = list.iter().flatten().map(|name| name.to_uppercase());
        names.map(|name| name.strip_prefix("CAP_").unwrap_or(&name).to_owned()).collect()
    };
    let (added, dropped) = wish.map(|wish| (short(&wish.add), short(&wish.drop))).unwrap_or_default();
    if let Some(unknown) = added.iter().find(|name| *name != "ALL" && !KNOWN_CAPABILITIES.contains(&name.as_str())) {
        return Err(format!("unknown capability \"{unknown}\" to add"));
    }
    let all = added.iter().any(|name| name == "ALL");
    let none = dropped.iter().any(|name| name == "ALL");
    let mut kept: Vec<String> = match (all, none) {
        (true, _) => KNOWN_CAPABILITIES.map(str::to_owned).to_vec(),
        (false, true) => Vec::new(),
        (false, false) => USUAL_CAPABILITIES.map(str::to_owned).to_vec(),
    };
    kept.retain(|name| !dropped.contains(name));
    kept.extend(added.into_iter().filter(|name| name != "ALL"));
    kept.sort();
    kept.dedup();
    Ok(kept.into_iter().map(|name| format!("CAP_{name}")).collect())
}

const KNOWN_CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];

/// On unless the manifest asks for more: a program that needs `setuid` says `allowPrivilegeEscalation: true`.
fn no_new_privileges(own: Option<&SecurityContext>, privileged: bool, capabilities: &[String]) -> bool {
    match own.and_then(|own| own.allow_privilege_escalation) {
        Some(allowed) => !allowed,
        None => !privileged && !capabilities.iter().any(|name| name == "CAP_SYS_ADMIN"),
    }
}

/// Whom the kernel takes first when memory runs out: those who asked for least.
fn oom_score_adj(pod: &Pod, container: &Container, facts: &Facts) -> i32 {
    match pod.status.as_ref().and_then(|status| status.qos_class.as_deref()) {
        Some("Guaranteed") => -997,
        Some("BestEffort") => 1000,
        _ => {
            let capacity = facts.allocatable.get("memory").and_then(|memory| memory.0.parse::<Quantity>().ok());
            let capacity = capacity.map_or(1, Quantity::value).max(1);
            let request = amount(container, "memory", false).map_or(0, Quantity::value);
            let share = i32::try_from(1000 * i128::from(request) / i128::from(capacity)).unwrap_or(1000);
            (1000 - share).clamp(2, 999)
        }
    }
}

/// Writes what the pod's containers see as `/etc/hosts`, `/etc/hostname` and `/etc/resolv.conf`.
pub(super) fn write_etc(
    pod: &Pod,
    dir: &PodDir,
    facts: &Facts,
    sandbox: &Sandbox,
    cluster_dns: Option<Ipv4Addr>,
) -> std::io::Result<()> {
    let Some(spec) = &pod.spec else { return Ok(()) };
    let etc = etc(dir);
    std::fs::create_dir_all(&etc)?;
    let machine = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let hosts = match sandbox.network.is_some() {
        true => hosts(spec, facts, &names(pod, spec)),
        false => machine_hosts(spec, &machine("/etc/hosts")),
    };
    std::fs::write(etc.join("hosts"), hosts)?;
    std::fs::write(etc.join("hostname"), format!("{}\n", sandbox.hostname))?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let cluster = cluster_dns.filter(|_| sandbox.network.is_some()).map(|address| (address, namespace));
    std::fs::write(etc.join("resolv.conf"), resolv_conf(spec, &machine("/etc/resolv.conf"), cluster))
}

fn hosts(spec: &PodSpec, facts: &Facts, names: &Names) -> String {
    let mut text =
        "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n\
        fe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n"
            .to_owned();
    let own: Vec<&str> = names.full.iter().chain([&names.short]).map(String::as_str).collect();
    text.extend(facts.pod_ips().map(|ip| format!("{ip}\t{}\n", own.join("\t"))));
    text + &host_aliases(spec)
}

/// On the machine's network, its own names hold.
fn machine_hosts(spec: &PodSpec, machine: &str) -> String {
    format!("# Kubernetes-managed hosts file (host network).\n{machine}{}", host_aliases(spec))
}

fn host_aliases(spec: &PodSpec) -> String {
    let aliases = spec.host_aliases.iter().flatten();
    let aliases: Vec<String> = aliases
        .map(|alias| {
            format!("{}\t{}\n", alias.ip, alias.hostnames.iter().flatten().cloned().collect::<Vec<_>>().join("\t"))
        })
        .collect();
    match aliases.is_empty() {
        true => String::new(),
        false => format!("\n# Entries added by HostAliases.\n{}", aliases.concat()),
    }
}

/// The cluster's names before the machine's, with what the pod adds; `dnsPolicy: None` has nothing but that. `cluster` is who
/// answers for the cluster's names, and the pod's namespace.
fn resolv_conf(spec: &PodSpec, machine: &str, cluster: Option<(Ipv4Addr, &str)>) -> String {
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let of_machine = |keyword: &str| -> Vec<String> {
        let values = machine.lines().filter_map(|line| line.trim().strip_prefix(keyword)?.strip_prefix([' ', '\t']));
        values.flat_map(str::split_whitespace).map(str::to_owned).collect()
    };
    let [mut servers, mut searches, mut options] = match (policy, cluster) {
        ("None", _) => [const { Vec::new() }; 3],
        ("ClusterFirst" | "ClusterFirstWithHostNet", Some((address, namespace))) => {
            let own =
                [format!("{namespace}.svc.{CLUSTER_DOMAIN}"), format!("svc.{CLUSTER_DOMAIN}"), CLUSTER_DOMAIN.into()];
            let searches = own.into_iter().chain(of_machine("search")).collect();
            [vec![address.to_string()], searches, vec!["ndots:5".to_owned()]]
        }
        _ => [of_machine("nameserver"), of_machine("search"), of_machine("options")],
    };
    if let Some(config) = &spec.dns_config {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let name = option.name.clone().unwrap_or_default();
            options.retain(|other| other.split(':').next() != Some(&name));
            options.push(option.value.as_ref().map_or(name.clone(), |value| format!("{name}:{value}")));
        }
    }
    let mut text: String = servers.iter().map(|server| format!("nameserver {server}\n")).collect();
    for (keyword, values) in [("search", searches), ("options", options)] {
        if !values.is_empty() {
            text.push_str(&format!("{keyword} {}\n", values.join(" ")));
        }
    }
    text
}

/// What a pod is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// Without any domain.
    pub(super) short: String,
    /// In the domain of its service, when it names one (`subdomain`).
    pub(super) full: Option<String>,
}

pub(super) fn names(pod: &Pod, spec: &PodSpec) -> Names {
    /// A label of the DNS has no more.
    const MAX_SHORT: usize = 63;
    if let Some(name) = spec.hostname_override.clone().filter(|name| !name.is_empty()) {
        return Names { short: name, full: None };
    }
    let name = spec.hostname.clone().filter(|name| !name.is_empty()).unwrap_or_else(|| pod.name_any());
    let short = name.chars().take(MAX_SHORT).collect::<String>().trim_end_matches(['-', '.']).to_owned();
    let namespace = pod.namespace().unwrap_or_default();
    let subdomain = spec.subdomain.as_ref().filter(|subdomain| !subdomain.is_empty());
    let full = subdomain.map(|subdomain| format!("{short}.{subdomain}.{namespace}.svc.{CLUSTER_DOMAIN}"));
    Names { short, full }
}

/// The name that a pod's containers call themselves.
pub(super) fn hostname(pod: &Pod, spec: &PodSpec) -> Result<String, String> {
    /// The kernel takes no more.
    const MAX_HOSTNAME: usize = 64;
    let Names { short, full } = names(pod, spec);
    match full.filter(|_| spec.set_hostname_as_fqdn == Some(true)) {
        Some(full) if full.len() > MAX_HOSTNAME => Err(format!(
            "Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain, FQDN {full} is too \
             long ({MAX_HOSTNAME} characters is the max, {} characters requested)",
            full.len()
        )),
        full => Ok(full.unwrap_or(short)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(value: serde_json::Value) -> SecurityContext {
        serde_json::from_value(value).expect("a security context")
    }

    #[test]
    fn capabilities_are_the_usual_ones_with_additions_and_without_the_dropped() {
        let names = |value| capabilities(Some(&context(value))).map(|names| names.join(" "));
        let check = |value, expected: &str| assert_eq!(names(value).as_deref(), Ok(expected));
        assert_eq!(capabilities(None).expect("names").len(), USUAL_CAPABILITIES.len());
        check(serde_json::json!({"capabilities": {"drop": ["ALL"]}}), "");
        check(serde_json::json!({"capabilities": {"drop": ["all"], "add": ["net_admin"]}}), "CAP_NET_ADMIN");
        check(
            serde_json::json!({"capabilities": {"drop": ["ALL"], "add": ["CAP_CHOWN", "KILL", "KILL"]}}),
            "CAP_CHOWN CAP_KILL",
        );
        let all = names(serde_json::json!({"capabilities": {"add": ["ALL"], "drop": ["CHOWN"]}})).expect("names");
        assert_eq!(all.split(' ').count(), KNOWN_CAPABILITIES.len() - 1);
        assert!(names(serde_json::json!({"capabilities": {"add": ["FLY"]}})).expect_err("unknown").contains("FLY"));
    }

    #[test]
    fn privileges_grow_only_where_somebody_said_so() {
        let check = |value, privileged, names: &[&str], expected| {
            let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
            assert_eq!(no_new_privileges(Some(&context(value)), privileged, &names), expected);
        };
        check(serde_json::json!({}), false, &["CAP_CHOWN"], true);
        check(serde_json::json!({"allowPrivilegeEscalation": true}), false, &[], false);
        check(serde_json::json!({"allowPrivilegeEscalation": false}), false, &[], true);
        check(serde_json::json!({}), true, &[], false);
        check(serde_json::json!({}), false, &["CAP_SYS_ADMIN"], false);
    }

    #[test]
    fn a_pod_is_called_by_its_name_or_in_the_domain_of_its_service() {
        let check = |name: &str, spec: serde_json::Value, expected: Result<&str, &str>, hosts_line: &str| {
            let meta = serde_json::json!({"name": name, "namespace": "shop"});
            let pod: Pod = serde_json::from_value(serde_json::json!({"metadata": meta})).expect("a pod");
            let mut spec = spec;
            spec["containers"] = serde_json::json!([]);
            let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
            assert_eq!(hostname(&pod, &spec).as_deref().map_err(String::as_str), expected);
            let facts = Facts {
                pod_ip: Ipv4Addr::new(10, 0, 0, 7),
                pod_ip_v6: "fd5c::7".parse().ok(),
                host_ip: [10, 0, 0, 1].into(),
                allocatable: std::collections::BTreeMap::new(),
            };
            let hosts = hosts(&spec, &facts, &names(&pod, &spec));
            assert!(hosts.contains(&format!("10.0.0.7\t{hosts_line}\nfd5c::7\t{hosts_line}\n")), "{hosts}");
        };
        let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).expect("JSON");
        check("web-1", json("{}"), Ok("web-1"), "web-1");
        check("web-1", json(r#"{"hostname": "db"}"#), Ok("db"), "db");
        let named = r#"{"hostnameOverride": "my.own", "hostname": "db", "subdomain": "mysql"}"#;
        check("web-1", json(named), Ok("my.own"), "my.own");
        check("web-1", json(r#"{"setHostnameAsFQDN": true}"#), Ok("web-1"), "web-1");
        let full = "db.mysql.shop.svc.cluster.local";
        check("web-1", json(r#"{"hostname": "db", "subdomain": "mysql"}"#), Ok("db"), &format!("{full}\tdb"));
        let own = r#"{"hostname": "db", "subdomain": "mysql", "setHostnameAsFQDN": true}"#;
        check("web-1", json(own), Ok(full), &format!("{full}\tdb"));
        let (long, cut) = ("n".repeat(70), "n".repeat(63));
        check(&long, json("{}"), Ok(&cut), &cut);
        let long_full = format!("{cut}.mysql.shop.svc.cluster.local");
        let refused = format!(
            "Failed to create pod sandbox: failed to construct FQDN from pod hostname and cluster domain, FQDN {long_full} is \
             too long (64 characters is the max, 92 characters requested)"
        );
        let wish = json(r#"{"subdomain": "mysql", "setHostnameAsFQDN": true}"#);
        check(&long, wish, Err(&refused), &format!("{long_full}\t{cut}"));
    }

    #[test]
    fn the_machines_names_come_with_the_pods_aliases() {
        let spec =
            serde_json::json!({"containers": [], "hostAliases": [{"ip": "10.0.0.9", "hostnames": ["a", "b.c"]}]});
        let spec: PodSpec = serde_json::from_value(spec).expect("a spec");
        let expected = "# Kubernetes-managed hosts file (host network).\n127.0.0.1 me\n\n# Entries added by HostAliases.\n\
            10.0.0.9\ta\tb.c\n";
        assert_eq!(machine_hosts(&spec, "127.0.0.1 me\n"), expected);
    }

    #[test]
    fn names_are_looked_up_where_the_pod_says() {
        let spec = |value| serde_json::from_value::<PodSpec>(value).expect("a spec");
        let machine = "# comment\nnameserver 192.0.2.1\nsearch home\n";
        let plain = spec(serde_json::json!({"containers": []}));
        assert_eq!(resolv_conf(&plain, machine, None), "nameserver 192.0.2.1\nsearch home\n");
        let own = spec(serde_json::json!({"containers": [], "dnsPolicy": "None", "dnsConfig": {
            "nameservers": ["192.0.2.9"], "searches": ["a.b", "c"], "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}],
        }}));
        let expected = "nameserver 192.0.2.9\nsearch a.b c\noptions ndots:2 edns0\n";
        assert_eq!(resolv_conf(&own, machine, None), expected);
        let cluster = Some((Ipv4Addr::new(10, 96, 0, 10), "shop"));
        let expected = "nameserver 10.96.0.10\nsearch shop.svc.cluster.local svc.cluster.local cluster.local home\n\
            options ndots:5\n";
        assert_eq!(resolv_conf(&plain, machine, cluster), expected);
    }
}
