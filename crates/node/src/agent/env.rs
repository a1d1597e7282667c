//! The environment of a container, as the manifest describes it and the cluster fills it in.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, EnvFromSource, EnvVar, Pod};

use super::{
    downward::{self, DownwardError, Facts},
    expand::expand,
    sources::Sources,
};

/// Why a container's environment cannot be put together; the texts are what `kubectl describe` is known to show.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum EnvError {
    #[error("configmap \"{0}\" not found")]
    NoConfigMap(String),
    #[error("secret \"{0}\" not found")]
    NoSecret(String),
    #[error("couldn't find key {key} in ConfigMap {namespace}/{name}")]
    NoConfigMapKey { key: String, namespace: String, name: String },
    #[error("couldn't find key {key} in Secret {namespace}/{name}")]
    NoSecretKey { key: String, namespace: String, name: String },
    #[error("the value of {name} is not text")]
    NotText { name: String },
    #[error("{name}: {source}")]
    Downward { name: String, source: DownwardError },
    #[error("{name}: this kind of source is not supported")]
    Source { name: String },
}

/// Resolves `envFrom` and `env` over what every container gets. Later entries win and see earlier ones.
pub(super) fn resolve(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    sources: &Sources,
    given: &[(String, String)],
) -> Result<BTreeMap<String, String>, EnvError> {
    let mut env: BTreeMap<String, String> = given.iter().cloned().collect();
    for source in container.env_from.iter().flatten() {
        take_all(source, sources, &mut env)?;
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, facts, sources, variable, &env)? {
            env.insert(variable.name.clone(), value);
        }
    }
    Ok(env)
}

/// `None`: an optional source is missing, and so is the variable.
fn value_of(
    pod: &Pod,
    container: &Container,
    facts: &Facts,
    sources: &Sources,
    variable: &EnvVar,
    env: &BTreeMap<String, String>,
) -> Result<Option<String>, EnvError> {
    let name = &variable.name;
    let Some(from) = &variable.value_from else {
        let value = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(value, |name| env.get(name).cloned())));
    };
    let downward = |source| EnvError::Downward { name: name.clone(), source };
    if let Some(field) = &from.field_ref {
        return downward::field(pod, facts, &field.field_path).map(Some).map_err(downward);
    }
    if let Some(selector) = &from.resource_field_ref {
        return downward::resource(pod, Some(container), facts, selector).map(Some).map_err(downward);
    }
    if let Some(key) = &from.config_map_key_ref {
        return config_map_key(sources, &key.name, &key.key, key.optional == Some(true));
    }
    if let Some(key) = &from.secret_key_ref {
        return secret_key(sources, &key.name, &key.key, key.optional == Some(true));
    }
    Err(EnvError::Source { name: name.clone() })
}

fn config_map_key(sources: &Sources, name: &str, key: &str, optional: bool) -> Result<Option<String>, EnvError> {
    let found = match sources.config_map(name) {
        Some(map) => map.data.as_ref().and_then(|data| data.get(key)).cloned(),
        None if optional => return Ok(None),
        None => return Err(EnvError::NoConfigMap(name.to_owned())),
    };
    match found {
        None if !optional => Err(EnvError::NoConfigMapKey {
            key: key.to_owned(),
            namespace: sources.namespace().to_owned(),
            name: name.to_owned(),
        }),
        found => Ok(found),
    }
}

fn secret_key(sources: &Sources, name: &str, key: &str, optional: bool) -> Result<Option<String>, EnvError> {
    let found = match sources.secret(name) {
        Some(secret) => secret.data.as_ref().and_then(|data| data.get(key)),
        None if optional => return Ok(None),
        None => return Err(EnvError::NoSecret(name.to_owned())),
    };
    match found {
        Some(bytes) => text(name, &bytes.0).map(Some),
        None if optional => Ok(None),
        None => Err(EnvError::NoSecretKey {
            key: key.to_owned(),
            namespace: sources.namespace().to_owned(),
            name: name.to_owned(),
        }),
    }
}

fn take_all(source: &EnvFromSource, sources: &Sources, env: &mut BTreeMap<String, String>) -> Result<(), EnvError> {
    let prefix = source.prefix.as_deref().unwrap_or_default();
    if let Some(reference) = &source.config_map_ref {
        match sources.config_map(&reference.name) {
            Some(map) => {
                let entries = map.data.iter().flatten();
                env.extend(entries.map(|(key, value)| (format!("{prefix}{key}"), value.clone())));
            }
            None if reference.optional == Some(true) => {}
            None => return Err(EnvError::NoConfigMap(reference.name.clone())),
        }
    }
    if let Some(reference) = &source.secret_ref {
        match sources.secret(&reference.name) {
            Some(secret) => {
                for (key, value) in secret.data.iter().flatten() {
                    env.insert(format!("{prefix}{key}"), text(&reference.name, &value.0)?);
                }
            }
            None if reference.optional == Some(true) => {}
            None => return Err(EnvError::NoSecret(reference.name.clone())),
        }
    }
    Ok(())
}

fn text(name: &str, bytes: &[u8]) -> Result<String, EnvError> {
    match std::str::from_utf8(bytes) {
        Ok(text) if !text.contains('\0') => Ok(text.to_owned()),
        _ => Err(EnvError::NotText { name: name.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Resolves a container written as JSON; the environment as `NAME=value` words, or the error.
    fn check(container: serde_json::Value, expected: &str) {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": {"name": "web-1", "namespace": "shop"}, "spec": {"containers": []},
        }))
        .expect("a pod");
        let mut sources = Sources::new("shop");
        sources.put_config_map(
            serde_json::from_value(serde_json::json!({"metadata": {"name": "c"}, "data": {"k": "v", "K2": "v2"}}))
                .expect("a map"),
        );
        sources.put_secret(
            serde_json::from_value(serde_json::json!({"metadata": {"name": "s"}, "data": {"p": "cHc="}}))
                .expect("a secret"),
        );
        let facts = Facts {
            pod_ip: [127, 64, 0, 1].into(),
            pod_ip_v6: None,
            host_ip: [10, 0, 0, 1].into(),
            allocatable: BTreeMap::new(),
        };
        let container: Container = serde_json::from_value(container).expect("a container");
        let given = [("PORT".to_owned(), "80".to_owned())];
        let got = match resolve(&pod, &container, &facts, &sources, &given) {
            Ok(env) => env.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" "),
            Err(error) => error.to_string(),
        };
        assert_eq!(got, expected);
    }

    #[test]
    fn values_come_from_everywhere() {
        let from = |kind: &str, name: &str, key: &str| serde_json::json!({kind: {"name": name, "key": key}});
        check(
            serde_json::json!({"name": "c", "env": [
                {"name": "A", "value": "$(PORT)-$(LATER)"},
                {"name": "LATER", "value": "$(A)"},
                {"name": "F", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
                {"name": "M", "valueFrom": from("configMapKeyRef", "c", "k")},
                {"name": "S", "valueFrom": from("secretKeyRef", "s", "p")},
            ]}),
            "A=80-$(LATER) F=web-1 LATER=80-$(LATER) M=v PORT=80 S=pw",
        );
        check(
            serde_json::json!({"name": "c", "envFrom": [
                {"configMapRef": {"name": "c"}}, {"prefix": "S_", "secretRef": {"name": "s"}},
                {"configMapRef": {"name": "none", "optional": true}},
            ], "env": [{"name": "k", "value": "own"}]}),
            "K2=v2 PORT=80 S_p=pw k=own",
        );
    }

    /// Services come first, then `envFrom` in its order, then `env`; each sees what came before.
    #[test]
    fn later_sources_win() {
        check(
            serde_json::json!({"name": "c", "envFrom": [
                {"prefix": "A.", "configMapRef": {"name": "c"}}, {"prefix": "A.", "secretRef": {"name": "s"}},
            ], "env": [
                {"name": "PORT", "value": "$(PORT)1"}, {"name": "PORT", "value": "$(PORT)2"},
                {"name": "X", "value": "$(A.k) $$(A.k) $(NOBODY) $$"},
            ]}),
            "A.K2=v2 A.k=v A.p=pw PORT=8012 X=v $(A.k) $(NOBODY) $",
        );
    }

    #[test]
    fn what_is_missing_is_named_unless_it_is_optional() {
        let one = |kind: &str, name: &str, key: &str, optional: bool| {
            serde_json::json!({"name": "c", "env": [
                {"name": "X", "valueFrom": {kind: {"name": name, "key": key, "optional": optional}}}]})
        };
        check(one("configMapKeyRef", "none", "k", false), "configmap \"none\" not found");
        check(one("secretKeyRef", "none", "k", false), "secret \"none\" not found");
        check(one("configMapKeyRef", "c", "none", false), "couldn't find key none in ConfigMap shop/c");
        check(one("secretKeyRef", "s", "none", false), "couldn't find key none in Secret shop/s");
        for (kind, name) in
            [("configMapKeyRef", "none"), ("configMapKeyRef", "c"), ("secretKeyRef", "s"), ("secretKeyRef", "none")]
        {
            check(one(kind, name, "none", true), "PORT=80");
        }
    }
}
