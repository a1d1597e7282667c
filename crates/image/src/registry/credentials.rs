//! Who we are to a registry: Docker's configuration file, its helpers, and the pull secrets of pods.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use http::HeaderValue;
use serde::Deserialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::digest::Digest;
use crate::reference::Reference;

const HELPER_TIMEOUT: Duration = Duration::from_secs(30);
const MAX_HELPER_OUTPUT: u64 = 64 << 10;
/// How Docker's own registry is called in configuration files.
const DOCKER_HUB_KEYS: [&str; 3] = ["index.docker.io", "registry-1.docker.io", "docker.io"];

#[derive(Clone, PartialEq, Eq)]
pub enum Credential {
    Password {
        user: String,
        password: String,
    },
    /// Is exchanged for a token.
    Identity(String),
    /// Is the token.
    Bearer(String),
}

/// Secrets stay out of logs.
impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Password { user, .. } => write!(f, "Password({user})"),
            Self::Identity(_) => f.write_str("Identity"),
            Self::Bearer(_) => f.write_str("Bearer"),
        }
    }
}

impl Credential {
    pub(super) fn basic(&self) -> Option<HeaderValue> {
        let Self::Password { user, password } = self else { return None };
        let mut value =
            HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// Tells credentials apart without holding them.
    pub(super) fn fingerprint(&self) -> String {
        let text = match self {
            Self::Password { user, password } => format!("{user}:{password}"),
            Self::Identity(token) | Self::Bearer(token) => token.clone(),
        };
        Digest::of(text.as_bytes()).to_string()
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    #[error("cannot read `{}`", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("is no Docker configuration")]
    Format(#[source] serde_json::Error),
}

/// Credentials by registry, as `docker login` leaves them.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Keyring {
    auths: BTreeMap<String, Auth>,
    creds_store: String,
    cred_helpers: BTreeMap<String, String>,
}

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Auth {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    registrytoken: String,
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Auth")
    }
}

impl Keyring {
    /// `config.json` of `$DOCKER_CONFIG` or `~/.docker`; empty where there is none.
    pub fn of_user() -> Result<Self, CredentialsError> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let directory = set("DOCKER_CONFIG").or_else(|| set("HOME").map(|home| home.join(".docker")));
        directory.map_or_else(|| Ok(Self::default()), |directory| Self::read(&directory.join("config.json")))
    }

    pub fn read(path: &Path) -> Result<Self, CredentialsError> {
        match std::fs::read(path) {
            Ok(text) => serde_json::from_slice(&text).map_err(CredentialsError::Format),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self::default()),
            Err(source) => Err(CredentialsError::Read { path: path.to_owned(), source }),
        }
    }

    /// A secret of type `kubernetes.io/dockerconfigjson`, whose helpers are not ours to run.
    pub fn of_secret(text: &[u8]) -> Result<Self, CredentialsError> {
        let keyring: Self = serde_json::from_slice(text).map_err(CredentialsError::Format)?;
        Ok(Self { auths: keyring.auths, ..Self::default() })
    }

    /// A secret of the older type `kubernetes.io/dockercfg`.
    pub fn of_old_secret(text: &[u8]) -> Result<Self, CredentialsError> {
        let auths = serde_json::from_slice(text).map_err(CredentialsError::Format)?;
        Ok(Self { auths, ..Self::default() })
    }

    /// What may open a repository, the most specific first.
    pub async fn credentials(&self, reference: &Reference) -> Vec<Credential> {
        let mut found = Vec::new();
        let helper = self.cred_helpers.get(reference.registry()).unwrap_or(&self.creds_store);
        let is_name = helper.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        if is_name && !helper.is_empty() {
            // Looked for in `PATH`.
            let program = PathBuf::from(format!("docker-credential-{helper}"));
            found.extend(ask_helper(&program, helper, reference.registry(), HELPER_TIMEOUT).await);
        }
        let name = reference.name();
        let mut matching: Vec<(usize, &Auth)> =
            self.auths.iter().filter_map(|(key, auth)| Some((covers(key, &name)?, auth))).collect();
        matching.sort_by_key(|(length, _)| std::cmp::Reverse(*length));
        found.extend(matching.into_iter().filter_map(|(_, auth)| auth.credential()));
        found
    }
}

impl Auth {
    fn credential(&self) -> Option<Credential> {
        if !self.registrytoken.is_empty() {
            return Some(Credential::Bearer(self.registrytoken.clone()));
        }
        if !self.identitytoken.is_empty() {
            return Some(Credential::Identity(self.identitytoken.clone()));
        }
        if !self.username.is_empty() {
            return Some(Credential::Password { user: self.username.clone(), password: self.password.clone() });
        }
        let decoded = STANDARD_NO_PAD.decode(self.auth.trim().trim_end_matches('=')).ok()?;
        let text = String::from_utf8(decoded).ok()?;
        let (user, password) = text.split_once(':')?;
        let password = password.trim_end_matches('\0').to_owned();
        Some(Credential::Password { user: user.to_owned(), password })
    }
}

/// How much of a repository's name a key of the file stands for: `https://host/v1/`, `host`, `host/team`, `*.host`.
fn covers(key: &str, name: &str) -> Option<usize> {
    let key = key.strip_prefix("https://").or_else(|| key.strip_prefix("http://")).unwrap_or(key).trim_end_matches('/');
    let key = key.strip_suffix("/v1").or_else(|| key.strip_suffix("/v2")).unwrap_or(key);
    let (host, path) = key.split_once('/').unwrap_or((key, ""));
    let host = if DOCKER_HUB_KEYS.contains(&host) { "docker.io" } else { host };
    let (registry, repository) = name.split_once('/')?;
    let same_host = match host.strip_prefix('*') {
        Some(suffix) => registry.strip_suffix(suffix).is_some_and(|label| !label.is_empty() && !label.contains('.')),
        None => host == registry,
    };
    let below =
        path.is_empty() || repository.strip_prefix(path).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
    (same_host && below).then_some(key.len())
}

/// Asks `docker-credential-NAME`; one that does not know, or does not work, is as good as none.
async fn ask_helper(program: &Path, name: &str, registry: &str, patience: Duration) -> Option<Credential> {
    let server = if registry == "docker.io" { "https://index.docker.io/v1/" } else { registry };
    let run = async {
        let mut child = tokio::process::Command::new(program)
            .arg("get")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()?;
        if let Some(mut stdin) = child.stdin.take() {
            stdin.write_all(server.as_bytes()).await?;
        }
        let mut said = Vec::new();
        let output = child.stdout.take().expect("piped above");
        output.take(MAX_HELPER_OUTPUT + 1).read_to_end(&mut said).await?;
        // One that says more than this waits for a reader, and is killed.
        let status = if said.len() as u64 > MAX_HELPER_OUTPUT { None } else { Some(child.wait().await?) };
        Ok::<_, io::Error>((status, said))
    };
    let output = match tokio::time::timeout(patience, run).await {
        Ok(Ok((Some(status), said))) if status.success() => said,
        Ok(Ok((Some(_), _))) => return None,
        Ok(Ok((None, _))) => {
            tracing::warn!(helper = name, limit = MAX_HELPER_OUTPUT, "Credential helper says too much");
            return None;
        }
        Ok(Err(error)) => {
            tracing::warn!(helper = name, %error, "Credential helper not run");
            return None;
        }
        Err(_) => {
            tracing::warn!(helper = name, "Credential helper does not answer");
            return None;
        }
    };
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Answer {
        username: String,
        secret: String,
    }
    let Answer { username, secret } = serde_json::from_slice(&output).ok()?;
    Some(match username.as_str() {
        "<token>" => Credential::Identity(secret),
        _ => Credential::Password { user: username, password: secret },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_cover_hosts_and_paths() {
        let check =
            |key: &str, name: &str, expected: bool| assert_eq!(covers(key, name).is_some(), expected, "{key} {name}");
        check("https://index.docker.io/v1/", "docker.io/library/nginx", true);
        check("docker.io", "docker.io/library/nginx", true);
        check("ghcr.io", "ghcr.io/a/b", true);
        check("ghcr.io/a", "ghcr.io/a/b", true);
        check("ghcr.io/a", "ghcr.io/ab/b", false);
        check("ghcr.io", "ghcr.io.evil.test/a", false);
        check("*.azurecr.io", "x.azurecr.io/a", true);
        check("*.azurecr.io", "x.y.azurecr.io/a", false);
        check("localhost:5000", "localhost:5000/a", true);
        check("localhost:5000", "localhost:5001/a", false);
    }

    proptest::proptest! {
        #[test]
        fn no_configuration_makes_it_panic(
            any in ".{0,100}", key in "(https?://)?[*a-z.:/]{0,20}(/v[12])?/?", name in "[a-z.:]{1,10}/[a-z/]{1,10}", auth in "[a-zA-Z0-9+/=\\\\ ]{0,30}",
        ) {
            let _refused = (Keyring::of_secret(any.as_bytes()).is_ok(), Keyring::of_old_secret(any.as_bytes()).is_ok());
            covers(&key, &name);
            let text = serde_json::json!({"auths": {key: {"auth": auth}}}).to_string();
            let keyring = Keyring::of_secret(text.as_bytes()).expect("a secret");
            keyring.auths.values().for_each(|auth| drop(auth.credential()));
        }
    }

    /// A helper that is a script of the test's own.
    async fn helped(script: &str, patience: Duration) -> Option<Credential> {
        use std::os::unix::fs::PermissionsExt as _;
        let directory = tempfile::tempdir().expect("a directory");
        let program = directory.path().join("docker-credential-test");
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).expect("written");
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
        ask_helper(&program, "test", "a.test", patience).await
    }

    #[tokio::test]
    async fn helpers_are_asked_and_are_not_waited_for_without_end() {
        let long = Duration::from_secs(30);
        let found =
            helped(r#"[ "$1" = get ] && [ "$(cat)" = a.test ] && echo '{"Username": "u", "Secret": "p"}'"#, long).await;
        assert_eq!(found, Some(Credential::Password { user: "u".to_owned(), password: "p".to_owned() }));
        let token = helped(r#"cat > /dev/null; echo '{"Username": "<token>", "Secret": "t"}'"#, long).await;
        assert_eq!(token, Some(Credential::Identity("t".to_owned())));
        for script in
            ["cat > /dev/null; echo nothing; exit 1", "cat > /dev/null; echo no JSON", "cat > /dev/null; yes", "exit 0"]
        {
            assert_eq!(helped(script, long).await, None, "{script}");
        }
        assert_eq!(helped("exec sleep 600", Duration::from_millis(200)).await, None);
        assert_eq!(ask_helper(Path::new("/no/such/helper"), "test", "a.test", long).await, None);
    }

    #[tokio::test]
    async fn a_secret_opens_what_it_names_and_runs_nothing() {
        let text = r#"{"auths": {"a.test": {"auth": "dXNlcjpwYXNz"}, "a.test/team": {"username": "u", "password": "p"}},
            "credsStore": "evil", "credHelpers": {"a.test": "evil"}}"#;
        let keyring = Keyring::of_secret(text.as_bytes()).expect("a secret");
        let of = |name: &str| name.parse::<Reference>().expect(name);
        let user =
            |user: &str, password: &str| Credential::Password { user: user.to_owned(), password: password.to_owned() };
        assert_eq!(keyring.credentials(&of("a.test/team/app")).await, [user("u", "p"), user("user", "pass")]);
        assert_eq!(keyring.credentials(&of("a.test/other")).await, [user("user", "pass")]);
        assert_eq!(keyring.credentials(&of("b.test/x")).await, []);
        assert_eq!(format!("{:?}", user("u", "p")), "Password(u)");
        assert!(Keyring::of_secret(b"[").is_err());
    }
}
