//! Where the services of a pod's namespace are, as its environment says it.

use k8s_openapi::api::core::v1::Service;
use kube::ResourceExt as _;

/// Variables of every service that has an address, in the two styles that programs know.
pub(super) fn variables<'a>(services: impl IntoIterator<Item = &'a Service>) -> Vec<(String, String)> {
    services.into_iter().flat_map(of_service).collect()
}

fn of_service(service: &Service) -> Vec<(String, String)> {
    let Some(spec) = &service.spec else { return Vec::new() };
    let Some(address) = spec.cluster_ip.as_deref().filter(|address| !matches!(*address, "" | "None")) else {
        return Vec::new();
    };
    let name = variable(&service.name_any());
    let mut found = vec![(format!("{name}_SERVICE_HOST"), address.to_owned())];
    for (index, port) in spec.ports.iter().flatten().enumerate() {
        let number = port.port;
        let protocol = port.protocol.as_deref().unwrap_or("TCP");
        let url = format!("{}://{address}:{number}", protocol.to_lowercase());
        if index == 0 {
            found.push((format!("{name}_SERVICE_PORT"), number.to_string()));
            found.push((format!("{name}_PORT"), url.clone()));
        }
        if let Some(port_name) = port.name.as_deref().filter(|port_name| !port_name.is_empty()) {
            found.push((format!("{name}_SERVICE_PORT_{}", variable(port_name)), number.to_string()));
        }
        let prefix = format!("{name}_PORT_{number}_{protocol}");
        found.push((format!("{prefix}_PROTO"), protocol.to_lowercase()));
        found.push((format!("{prefix}_PORT"), number.to_string()));
        found.push((format!("{prefix}_ADDR"), address.to_owned()));
        found.push((prefix, url));
    }
    found
}

fn variable(name: &str) -> String {
    name.to_uppercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_told_in_both_styles() {
        let check = |spec: serde_json::Value, expected: &str| {
            let service = serde_json::json!({"metadata": {"name": "web-shop"}, "spec": spec});
            let service: Service = serde_json::from_value(service).expect("a service");
            let found = variables([&service]);
            let mut words: Vec<String> = found.iter().map(|(name, value)| format!("{name}={value}")).collect();
            words.sort();
            assert_eq!(words.join(" "), expected);
        };
        check(serde_json::json!({"clusterIP": "None", "ports": [{"port": 80}]}), "");
        check(
            serde_json::json!({"clusterIP": "10.96.0.9", "ports": [{"name": "http-web", "port": 80}]}),
            "WEB_SHOP_PORT=tcp://10.96.0.9:80 WEB_SHOP_PORT_80_TCP=tcp://10.96.0.9:80 \
             WEB_SHOP_PORT_80_TCP_ADDR=10.96.0.9 WEB_SHOP_PORT_80_TCP_PORT=80 WEB_SHOP_PORT_80_TCP_PROTO=tcp \
             WEB_SHOP_SERVICE_HOST=10.96.0.9 WEB_SHOP_SERVICE_PORT=80 WEB_SHOP_SERVICE_PORT_HTTP_WEB=80",
        );
    }
}
