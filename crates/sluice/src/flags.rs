//! Every command and flag, with the help text it owns.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use sluice_engine::{DnsWish, ServicesWish};
use sluice_model::duration;

/// Deploys versions of software and decides, apart from that, how much traffic they get.
#[derive(Debug, Parser)]
#[command(name = "sluice", version, disable_help_subcommand = true, arg_required_else_help = true)]
pub(crate) struct Flags {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the engine: API, controllers, node and gateway
    Up(Up),
    /// Run the gateway alone, on the API of an engine or of a Kubernetes cluster
    Gateway(Alone),
    /// Watch a release go wrong and be rolled back, then one succeed
    Demo(Demo),
    /// Create or change objects from files (server-side apply)
    Apply(Apply),
    /// Show objects
    Get(Get),
    /// Print the logs of a pod
    Logs(Logs),
    /// Delete objects
    Delete(Delete),
    /// Images of this machine: from registries, from files, and commands that run as images
    #[command(subcommand)]
    Image(Image),
    /// Follow and steer releases
    #[command(subcommand)]
    Rollout(Rollout),
    /// Print what a Rollout will do, step by step, before anything runs
    Plan(Plan),
    /// Show what a parallel run has found: where the candidate answers differently
    Compare(Compare),
    /// Send a steady stream of requests and count everything that fails
    Load(LoadFlags),
    /// Print the version
    Version(Version),
    /// Print a completion script
    Completions { shell: clap_complete::Shell },
    /// The demo shop, as pods of image `sluice.dev/demo:TAG` run it
    #[command(hide = true)]
    DemoShop,
    /// The holder of the namespaces that pods run in without root, started by the node agent
    #[command(hide = true, disable_help_flag = true)]
    PodsHolder {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
    /// The supervisor of one pod, started by the node agent
    #[command(hide = true, disable_help_flag = true)]
    PodSupervisor {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<std::ffi::OsString>,
    },
}

#[derive(Debug, Args)]
pub(crate) struct Up {
    /// Where everything is kept [default: $XDG_DATA_HOME/sluice or ~/.local/share/sluice]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
    /// The API's address; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:6443")]
    pub api: SocketAddr,
    /// The gateway's address; port 0 takes any free port
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub gateway: SocketAddr,
    /// Where the gateway serves TLS, for Ingresses with certificates and listeners with port 443 [default: port 443 of --gateway]
    #[arg(long, value_name = "ADDR")]
    pub gateway_tls: Option<SocketAddr>,
    /// Addresses for Gateways, one for each, with every port of its listeners; those for whom none is left share the gateway's
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    pub gateway_addresses: Vec<IpAddr>,
    /// Whose word the gateway takes for whom a request comes from (X-Forwarded-*, Forwarded, X-Request-Id): addresses and ranges
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    pub trusted_proxies: Vec<sluice_engine::Network>,
    /// A line on standard output for each request to the gateway
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub access_log: Option<LogFormatFlag>,
    /// Where to write the kubeconfig [default: kubeconfig in the data directory]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Serve the API alone, as a test server for operators
    #[arg(long)]
    pub no_controllers: bool,
    /// Stop all pods when the engine stops, instead of letting them run on
    #[arg(long)]
    pub stop_pods: bool,
    /// What runs pods that name no runtimeClassName: processes of this machine, or containers
    #[arg(long, value_enum, default_value_t)]
    pub driver: DriverFlag,
    /// What carries requests to services: the kernel's packet filter, or sockets of this program
    #[arg(long, value_enum, default_value_t)]
    pub services: ServicesFlag,
    /// Where names of services are answered: an address, `auto` for one that nobody else has, or `off`
    #[arg(long, value_name = "ADDR|off", default_value = "auto")]
    pub dns: DnsWish,
    /// Whether pods in containers, and services that ask for it, get addresses of IPv6 beside those of IPv4
    #[arg(long, value_enum, default_value_t)]
    pub ipv6: Ipv6Flag,
    /// Print the ready line as JSON
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<JsonOnly>,
}

#[derive(Debug, Args)]
pub(crate) struct Alone {
    /// The kubeconfig to use [default: in a pod its service account, else that of `sluice up`]
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,
    /// Where to listen for ports 80 and this one; others open beside it as Gateways ask. Port 0 takes any free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// Where to serve TLS, for Ingresses with certificates and listeners with port 443 [default: port 443 of --listen]
    #[arg(long, value_name = "ADDR")]
    pub listen_tls: Option<SocketAddr>,
    /// The address to tell clients in the status of Gateways, where it is another one than that of `--listen`
    #[arg(long, value_name = "IP")]
    pub advertise: Option<IpAddr>,
    /// Addresses for Gateways, one for each, with every port of its listeners; those for whom none is left share that of `--listen`
    #[arg(long, value_name = "IP,...", value_delimiter = ',')]
    pub addresses: Vec<IpAddr>,
    /// Names this gateway among others: its Lease is `gateway-INSTANCE` [default: the host's name and the port]
    #[arg(long, value_name = "INSTANCE", value_parser = instance_name)]
    pub instance: Option<String>,
    /// Threads that serve requests; 0 stands for one per core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub workers: usize,
    /// Whose word to take for whom a request comes from (X-Forwarded-*, Forwarded, X-Request-Id): addresses and ranges
    #[arg(long, value_name = "CIDR,...", value_delimiter = ',')]
    pub trusted_proxies: Vec<sluice_engine::Network>,
    /// A line on standard output for each request
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub access_log: Option<LogFormatFlag>,
    /// Where to answer /livez, /readyz and /metrics
    #[arg(long, value_name = "ADDR")]
    pub admin: Option<SocketAddr>,
    /// After SIGTERM go on for so long, no longer ready, until balancers in front have heard of it
    #[arg(long, value_name = "DURATION", value_parser = duration::parse, default_value = "0s")]
    pub linger: Duration,
    /// Print the ready line as JSON
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<JsonOnly>,
}

/// Part of an object's name, and so held to its letters.
fn instance_name(text: &str) -> Result<String, String> {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let letters = bytes.iter().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || *byte == b'-');
    if letters && is_end(bytes.first()) && is_end(bytes.last()) && bytes.len() <= 63 {
        return Ok(text.to_owned());
    }
    Err("must be at most 63 of a-z, 0-9 and `-`, the first and last no `-`".to_owned())
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Ipv6Flag {
    /// As root, where the machine has IPv6; services need the kernel's packet filter for it
    #[default]
    Auto,
    /// IPv4 alone
    Off,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum ServicesFlag {
    /// The kernel, where we may and no other engine does; else sockets
    #[default]
    Auto,
    /// The kernel: reached from containers and from everything on this machine
    Kernel,
    /// Sockets on loopback addresses: reached from this machine's processes
    User,
}

impl From<ServicesFlag> for ServicesWish {
    fn from(flag: ServicesFlag) -> Self {
        match flag {
            ServicesFlag::Auto => Self::Auto,
            ServicesFlag::Kernel => Self::Kernel,
            ServicesFlag::User => Self::User,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum LogFormatFlag {
    /// An object with everything that there is to say
    Json,
    /// As Apache and nginx write it
    Combined,
}

impl From<LogFormatFlag> for sluice_engine::LogFormat {
    fn from(flag: LogFormatFlag) -> Self {
        match flag {
            LogFormatFlag::Json => Self::Json,
            LogFormatFlag::Combined => Self::Combined,
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum DriverFlag {
    /// Processes for process images; containers for other images, where the machine can make them
    #[default]
    Auto,
    /// Containers for everything
    Container,
    /// Processes for everything
    Process,
}

impl From<DriverFlag> for sluice_engine::Driver {
    fn from(flag: DriverFlag) -> Self {
        match flag {
            DriverFlag::Auto => Self::Auto,
            DriverFlag::Container => Self::Container,
            DriverFlag::Process => Self::Process,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// Print one line of JSON at the end
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<JsonOnly>,
    /// Requests per second
    #[arg(long, default_value_t = 200.0)]
    pub rate: f64,
}

/// How to reach the API.
#[derive(Debug, Args)]
pub(crate) struct Connect {
    /// The kubeconfig to use [default: that of `sluice up`]
    #[arg(long, value_name = "FILE", env = "KUBECONFIG", hide_env_values = true)]
    pub kubeconfig: Option<PathBuf>,
    /// The namespace
    #[arg(short, long)]
    pub namespace: Option<String>,
}

#[derive(Debug, Args)]
pub(crate) struct Apply {
    /// Files or directories with YAML or JSON; `-` reads standard input
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// Check everything, store nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Take over fields that another manager owns
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Args)]
pub(crate) struct Get {
    /// `pods`, `deploy/shop`, ...
    #[arg(value_name = "KIND")]
    pub kind: String,
    #[arg(value_name = "NAME")]
    pub name: Option<String>,
    /// Objects of all namespaces
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Only objects with these labels
    #[arg(short = 'l', long, value_name = "LABELS")]
    pub selector: Option<String>,
    /// Go on and print every change
    #[arg(short, long)]
    pub watch: bool,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    #[value(hide = true)]
    Table,
    Wide,
    Json,
    Yaml,
    Name,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum JsonOnly {
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// A pod, or `deployment/NAME` for one of its pods
    #[arg(value_name = "POD")]
    pub pod: String,
    #[arg(short, long)]
    pub container: Option<String>,
    /// Go on as lines come
    #[arg(short, long)]
    pub follow: bool,
    /// The logs of the container before its last restart
    #[arg(short, long)]
    pub previous: bool,
    /// Only the last lines
    #[arg(long, value_name = "LINES")]
    pub tail: Option<i64>,
    /// Only what is younger, such as `5m`
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub since: Option<Duration>,
    #[arg(long)]
    pub timestamps: bool,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Args)]
pub(crate) struct Delete {
    /// `pod`, `deploy/shop`, ...
    #[arg(value_name = "KIND", required_unless_present = "files")]
    pub kind: Option<String>,
    #[arg(value_name = "NAME")]
    pub names: Vec<String>,
    /// Delete what these files name
    #[arg(short, long = "filename", value_name = "FILE", conflicts_with = "kind")]
    pub files: Vec<PathBuf>,
    /// Do not wait until the objects are gone
    #[arg(long)]
    pub no_wait: bool,
    /// No error when there is nothing to delete
    #[arg(long)]
    pub ignore_not_found: bool,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Image {
    /// Let pods of image NAME run a command of this machine
    Add(ImageAdd),
    /// Bring an image from its registry
    Pull(ImagePull),
    /// Bring the images of a file in: `docker save`, an OCI archive or a layout directory
    Load(ImageLoad),
    /// List the images
    Ls(ImageLs),
    /// Show one image with its configuration, as JSON
    Inspect(ImageInspect),
    /// Take a name away, and an image with its last name
    Rm(ImageRm),
}

/// Where the images are.
#[derive(Debug, Args)]
pub(crate) struct ImageStore {
    /// The engine's data directory [default: that of `sluice up`]
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Which images come, where to, and how that is told.
#[derive(Debug, Args)]
pub(crate) struct ImageComing {
    /// For another machine than this, such as `linux/arm64`
    #[arg(long, value_name = "OS/ARCH")]
    pub platform: Option<sluice_image::Platform>,
    /// Print what came as JSON
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<JsonOnly>,
    #[command(flatten)]
    pub store: ImageStore,
}

#[derive(Debug, Args)]
pub(crate) struct ImagePull {
    /// `nginx`, `ghcr.io/org/app:v1`, `app@sha256:...`
    #[arg(value_name = "IMAGE")]
    pub name: sluice_image::Reference,
    #[command(flatten)]
    pub coming: ImageComing,
}

#[derive(Debug, Args)]
pub(crate) struct ImageLoad {
    /// The file or directory
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// A name for an image that has none
    #[arg(long, value_name = "IMAGE")]
    pub name: Option<sluice_image::Reference>,
    #[command(flatten)]
    pub coming: ImageComing,
}

#[derive(Debug, Args)]
pub(crate) struct ImageInspect {
    /// A name, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    pub name: String,
    #[command(flatten)]
    pub store: ImageStore,
}

#[derive(Debug, Args)]
pub(crate) struct ImageAdd {
    /// The image, as manifests name it
    pub name: String,
    /// The program to run
    #[arg(long, value_name = "PATH")]
    pub exec: PathBuf,
    /// Its working directory
    #[arg(long, value_name = "DIR")]
    pub dir: Option<PathBuf>,
    /// Its arguments, where a manifest gives none
    #[arg(last = true)]
    pub args: Vec<String>,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Args)]
pub(crate) struct ImageLs {
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<JsonOnly>,
    #[command(flatten)]
    pub store: ImageStore,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Args)]
pub(crate) struct ImageRm {
    /// A name, or the beginning of an id
    #[arg(value_name = "IMAGE")]
    pub name: String,
    /// Also an image that pods need
    #[arg(long)]
    pub force: bool,
    #[command(flatten)]
    pub store: ImageStore,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Rollout {
    /// Show one Rollout, or all of the namespace
    #[command(visible_alias = "list")]
    Get(RolloutGet),
    /// Follow a release until it ends
    Watch(RolloutWatch),
    /// Release fully, skipping what is left of the steps
    Promote(RolloutVerb),
    /// Go on after a hold
    Approve(RolloutVerb),
    /// Return to the stable version
    Abort(RolloutVerb),
    /// Stay where it is
    Pause(RolloutVerb),
    /// Go on after a pause
    Resume(RolloutVerb),
    /// Leave the present step
    Skip(RolloutVerb),
    /// Start a rejected version again
    Retry(RolloutVerb),
    /// Return to the version before the last
    Undo(RolloutVerb),
}

#[derive(Debug, Args)]
pub(crate) struct RolloutGet {
    pub name: Option<String>,
    #[arg(short, long, value_name = "FORMAT", default_value = "table")]
    pub output: Output,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// The Rollout
    pub name: String,
    /// Print each comparison as JSON
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<JsonOnly>,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutWatch {
    pub name: String,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Args)]
pub(crate) struct RolloutVerb {
    pub name: String,
    #[command(flatten)]
    pub connect: Connect,
}

#[derive(Debug, Args)]
pub(crate) struct Plan {
    /// A file with a Rollout, and with its Deployment if its size matters
    #[arg(short, long = "filename", value_name = "FILE", required = true)]
    pub files: Vec<PathBuf>,
    /// How many pods to plan for, where no Deployment stands in the files
    #[arg(long)]
    pub replicas: Option<u32>,
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<JsonOnly>,
}

#[derive(Debug, Args)]
pub(crate) struct LoadFlags {
    /// The address, such as `http://127.0.0.1:8080/`
    pub url: String,
    /// Requests per second, sent at their time whatever the answers do [default: 100]
    #[arg(long, conflicts_with = "concurrency")]
    pub rate: Option<f64>,
    /// Keep so many requests in flight instead
    #[arg(long)]
    pub concurrency: Option<usize>,
    /// How long, such as `30s`
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, default_value = "10s")]
    pub duration: Duration,
    /// A header of every request
    #[arg(long = "header", value_name = "NAME=VALUE")]
    pub headers: Vec<String>,
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<JsonOnly>,
}

#[derive(Debug, Args)]
pub(crate) struct Version {
    #[arg(short, long, value_name = "FORMAT")]
    pub output: Option<JsonOnly>,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_flags_are_consistent() {
        super::Flags::command().debug_assert();
    }
}
