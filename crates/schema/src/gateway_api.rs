//! The definitions of the Gateway API, as published (experimental channel), without prose.

use serde_json::Value;

macro_rules! definitions {
    ($($plural:literal)*) => {
        [$(include_str!(concat!("../data/gateway-api/", $plural, ".json"))),*]
    };
}

const DEFINITIONS: [&str; 10] = definitions!(
    "backendtlspolicies" "gatewayclasses" "gateways" "grpcroutes" "httproutes" "listenersets" "referencegrants"
    "tcproutes" "tlsroutes" "udproutes"
);

/// One CustomResourceDefinition each.
pub fn gateway_api() -> impl Iterator<Item = Value> {
    DEFINITIONS.iter().map(|json| serde_json::from_str(json).expect("the generated definitions are JSON"))
}

#[cfg(test)]
mod tests {
    use crate::crd;

    #[test]
    fn every_definition_compiles_and_is_valid() {
        for mut definition in super::gateway_api() {
            crd::apply_definition_defaults(&mut definition);
            let name = definition["metadata"]["name"].as_str().unwrap().to_owned();
            assert_eq!(crd::check_definition(&definition), [], "{name}");
            assert!(!crd::compile(&definition).unwrap().is_empty(), "{name} serves no version");
            assert!(definition["metadata"]["annotations"]["gateway.networking.k8s.io/bundle-version"].is_string());
        }
    }
}
