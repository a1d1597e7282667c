//! Secrets that pods may use, where their service account bounds them.

use serde_json::Value;

use super::service_account;
use crate::call::Call;
use crate::object::Object;
use crate::refusal::Refusal;

const BOUNDED: &str = "kubernetes.io/enforce-mountable-secrets";

/// Refuses a new pod that uses secrets which its bounded account does not name.
pub(super) fn check(call: &Call, before: Option<&Value>, pod: &Value) -> Result<(), Refusal> {
    if !call.kind().is("", "Pod") || before.is_some() {
        return Ok(());
    }
    let account = service_account::stored(call, pod.text("/spec/serviceAccountName"));
    let Some(account) = account.map(|entry| entry.to_value()) else { return Ok(()) };
    if !is_true(account["metadata"]["annotations"][BOUNDED].as_str().unwrap_or_default()) {
        return Ok(());
    }
    match violation(&account, &pod["spec"]) {
        Some(why) => Err(Refusal::forbidden(call.kind(), pod.name(), why)),
        None => Ok(()),
    }
}

/// What Go takes for true.
fn is_true(text: &str) -> bool {
    ["1", "t", "T", "true", "TRUE", "True"].contains(&text)
}

/// The first use of a secret that the account does not name.
fn violation(account: &Value, spec: &Value) -> Option<String> {
    let each = |list: &Value| list.as_array().cloned().unwrap_or_default();
    let names = |list: &str| each(&account[list]).iter().map(|it| it.text("/name").to_owned()).collect::<Vec<_>>();
    let (secrets, pull_secrets) = (names("secrets"), names("imagePullSecrets"));
    let foreign = |name: &str, known: &[String]| !known.iter().any(|own| own == name);
    let account = account.name();
    let volumes = each(&spec["volumes"]);
    let mut mounted = volumes.iter().filter(|volume| !volume["secret"].is_null());
    if let Some(volume) = mounted.find(|volume| foreign(volume.text("/secret/secretName"), &secrets)) {
        return Some(format!(
            "volume with secret.secretName={:?} is not allowed because service account {account} does not reference that \
             secret",
            volume.text("/secret/secretName")
        ));
    }
    for (list, what) in [("initContainers", "init container"), ("containers", "container")] {
        for container in each(&spec[list]) {
            let env = each(&container["env"]);
            let mut referring = env.iter().filter(|it| !it["valueFrom"]["secretKeyRef"].is_null());
            if let Some(env) = referring.find(|it| foreign(it.text("/valueFrom/secretKeyRef/name"), &secrets)) {
                return Some(format!(
                    "{what} {} with envVar {} referencing secret.secretName={:?} is not allowed because service account \
                     {account} does not reference that secret",
                    container.text("/name"),
                    env.text("/name"),
                    env.text("/valueFrom/secretKeyRef/name")
                ));
            }
        }
    }
    let pulls = each(&spec["imagePullSecrets"]);
    let index = pulls.iter().position(|it| foreign(it.text("/name"), &pull_secrets))?;
    Some(format!(
        "imagePullSecrets[{index}].name={:?} is not allowed because service account {account} does not reference that \
         imagePullSecret",
        pulls[index].text("/name")
    ))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_bounded_account_lends_only_its_own_secrets() {
        let account =
            json!({"metadata": {"name": "bot"}, "secrets": [{"name": "ok"}], "imagePullSecrets": [{"name": "pull"}]});
        let env = |name: &str| json!([{"name": "A", "valueFrom": {"secretKeyRef": {"name": name, "key": "k"}}}]);
        let end = "is not allowed because service account bot does not reference that";
        let cases = [
            (json!({}), String::new()),
            (json!({"volumes": [{"secret": {"secretName": "ok"}}, {"emptyDir": {}}]}), String::new()),
            (
                json!({"volumes": [{"secret": {"secretName": "no"}}]}),
                format!("volume with secret.secretName=\"no\" {end} secret"),
            ),
            (
                json!({"containers": [{"name": "c", "env": env("ok")}, {"name": "d", "env": env("no")}]}),
                format!("container d with envVar A referencing secret.secretName=\"no\" {end} secret"),
            ),
            (
                json!({"initContainers": [{"name": "i", "env": env("no")}]}),
                format!("init container i with envVar A referencing secret.secretName=\"no\" {end} secret"),
            ),
            (
                json!({"imagePullSecrets": [{"name": "pull"}, {"name": "no"}]}),
                format!("imagePullSecrets[1].name=\"no\" {end} imagePullSecret"),
            ),
        ];
        for (spec, expected) in cases {
            assert_eq!(violation(&account, &spec).unwrap_or_default(), expected, "{spec}");
        }
    }
}
