//! Of which families the addresses of a Service are: what it says, what it was, and what the cluster has.
//!
//! For the server, which knows the cluster, when it gives a Service its addresses.

use serde_json::{Value, json};

use crate::edit::Edit;
use crate::fault::Fault;

pub const IPV4: &str = "IPv4";
pub const IPV6: &str = "IPv6";
const SINGLE: &str = "SingleStack";
const PREFER: &str = "PreferDualStack";
const REQUIRE: &str = "RequireDualStack";
const ONCE_SET: &str = "may not change once set";

/// Writes policy and families of a Service into its spec, and cuts off what a change to one family leaves over. `known` are the
/// cluster's families, the usual one first.
pub fn settle(spec: &mut Value, before: Option<&Value>, known: &[&str]) -> Vec<Fault> {
    if spec.text("type") == "ExternalName" || is_left_alone(spec, before) {
        return Vec::new();
    }
    let selectorless = spec.text("clusterIP") == "None" && !spec.holds("selector");
    choose_policy(spec, before, selectorless);
    let mut faults = before.map(|before| release(spec, before)).unwrap_or_default();
    faults.extend(too_many(spec));
    faults.extend(infer(spec, known));
    if !faults.is_empty() {
        return faults;
    }
    if !selectorless {
        faults = unknown(spec, known);
        if !faults.is_empty() {
            return faults;
        }
    }
    complete(spec, known, selectorless);
    before.map(|before| changed(spec, before)).unwrap_or_default()
}

fn list(spec: &Value, field: &str) -> Vec<Value> {
    spec.get(field).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn same(field: &str, spec: &Value, before: &Value) -> bool {
    list(spec, field) == list(before, field)
}

/// A Service that would like both gets no second address because the cluster has changed, only because somebody changes it.
fn is_left_alone(spec: &Value, before: Option<&Value>) -> bool {
    before.is_some_and(|before| {
        spec.text("type") == before.text("type")
            && [spec, before].iter().all(|it| it.text("ipFamilyPolicy") == PREFER)
            && ["clusterIPs", "ipFamilies"].iter().all(|field| same(field, spec, before))
    })
}

/// One family unless somebody says otherwise; endpoints that others write may be of both.
fn choose_policy(spec: &mut Value, before: Option<&Value>, selectorless: bool) {
    let kept = before.map(|before| before.text("ipFamilyPolicy")).filter(|policy| !policy.is_empty());
    let policy = kept.unwrap_or(if selectorless { REQUIRE } else { SINGLE }).to_owned();
    spec.default("ipFamilyPolicy", policy);
}

/// What goes with the second family, or may not go.
fn release(spec: &mut Value, before: &Value) -> Vec<Fault> {
    let mut faults = Vec::new();
    let policy = spec.text("ipFamilyPolicy").to_owned();
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let now = list(spec, field);
        if policy == SINGLE && same(field, spec, before) && now.len() > 1 {
            spec.put(field, json!([now[0]]));
        } else if policy != SINGLE && !now.is_empty() && now.len() < list(before, field).len() {
            let why = format!("must be 'SingleStack' to release the secondary {what}");
            faults.push(Fault::invalid("spec.ipFamilyPolicy", policy.as_str(), why));
        }
    }
    faults
}

fn too_many(spec: &Value) -> Vec<Fault> {
    let policy = spec.text("ipFamilyPolicy");
    let several = [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")]
        .into_iter()
        .filter(|(field, _)| policy == SINGLE && list(spec, field).len() == 2);
    let fault = |(_, what)| {
        let why = format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
        Fault::invalid("spec.ipFamilyPolicy", policy, why)
    };
    several.map(fault).collect()
}

/// Addresses say of which family they are.
fn infer(spec: &mut Value, known: &[&str]) -> Vec<Fault> {
    let (addresses, mut families) = (list(spec, "clusterIPs"), list(spec, "ipFamilies"));
    let mut faults = Vec::new();
    for (index, address) in addresses.iter().enumerate().skip(families.len()) {
        let address = address.as_str().unwrap_or_default();
        if address.is_empty() || address == "None" {
            break;
        }
        let family = if address.contains(':') { IPV6 } else { IPV4 };
        if known.contains(&family) {
            families.push(json!(family));
        } else {
            let why = format!("{family} is not configured on this cluster");
            faults.push(Fault::invalid(format!("spec.clusterIPs[{index}]"), json!(addresses), why));
        }
    }
    if !families.is_empty() {
        spec.put("ipFamilies", families);
    }
    faults
}

fn unknown(spec: &Value, known: &[&str]) -> Vec<Fault> {
    let mut faults = Vec::new();
    if spec.text("ipFamilyPolicy") == REQUIRE && known.len() < 2 {
        let why = "this cluster is not configured for dual-stack services";
        faults.push(Fault::invalid("spec.ipFamilyPolicy", REQUIRE, why));
    }
    for (index, family) in list(spec, "ipFamilies").iter().enumerate() {
        if !known.iter().any(|known| family == known) {
            let why = "not configured on this cluster";
            faults.push(Fault::invalid(format!("spec.ipFamilies[{index}]"), family.clone(), why));
        }
    }
    faults
}

/// Whoever writes endpoints by hand may have both even where the cluster has one.
fn complete(spec: &mut Value, known: &[&str], selectorless: bool) {
    let mut families = list(spec, "ipFamilies");
    if families.is_empty() {
        families.extend(known.first().map(|usual| json!(usual)));
    }
    if families.len() == 1 && spec.text("ipFamilyPolicy") != SINGLE && (selectorless || known.len() > 1) {
        let other = if families[0] == IPV4 { IPV6 } else { IPV4 };
        families.push(json!(other));
    }
    spec.put("ipFamilies", families);
}

/// The first family stays, except with the headless ones.
fn changed(spec: &Value, before: &Value) -> Vec<Fault> {
    let is_headless = |spec: &Value| spec.text("clusterIP") == "None";
    if before.text("type") == "ExternalName" || is_headless(spec) || is_headless(before) {
        return Vec::new();
    }
    let (now, then) = (list(spec, "ipFamilies"), list(before, "ipFamilies"));
    let shown = if now.len() == then.len() { json!(now) } else { json!(list(spec, "clusterIPs")) };
    let different = now.iter().zip(&then).filter(|(now, then)| now != then);
    different.map(|_| Fault::invalid("spec.ipFamilies[0]", shown.clone(), ONCE_SET)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: &[&str] = &[IPV4, IPV6];

    /// The spec without its type, or the faults.
    fn settled(mut spec: Value, before: Option<Value>, known: &[&str]) -> String {
        let with_type = |spec: &mut Value| {
            spec.default("type", "ClusterIP");
            spec.default("selector", json!({"app": "a"}));
        };
        with_type(&mut spec);
        let before = before.map(|mut before| {
            with_type(&mut before);
            before
        });
        let faults = settle(&mut spec, before.as_ref(), known);
        if !faults.is_empty() {
            return faults.iter().map(Fault::line).collect::<Vec<_>>().join("; ");
        }
        let words = |field| list(&spec, field).iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",");
        format!("{} {} {}", spec.text("ipFamilyPolicy"), words("ipFamilies"), words("clusterIPs")).trim_end().to_owned()
    }

    #[test]
    fn a_service_has_the_usual_family_unless_it_asks_for_more() {
        let check = |spec, known, expected: &str| assert_eq!(settled(spec, None, known), expected);
        for known in [&BOTH[..1], BOTH] {
            check(json!({}), known, "SingleStack IPv4");
            check(json!({"clusterIP": "None", "selector": {}}), known, "RequireDualStack IPv4,IPv6");
            check(json!({"clusterIP": "None"}), known, "SingleStack IPv4");
        }
        check(json!({"ipFamilyPolicy": PREFER}), &BOTH[..1], "PreferDualStack IPv4");
        check(json!({"ipFamilyPolicy": PREFER}), BOTH, "PreferDualStack IPv4,IPv6");
        check(json!({"ipFamilyPolicy": PREFER, "ipFamilies": [IPV6]}), BOTH, "PreferDualStack IPv6,IPv4");
        check(json!({"ipFamilyPolicy": REQUIRE, "clusterIP": "None"}), BOTH, "RequireDualStack IPv4,IPv6");
        check(json!({"ipFamilies": [IPV6]}), BOTH, "SingleStack IPv6");
        check(json!({"clusterIPs": ["fd00::9"]}), BOTH, "SingleStack IPv6 fd00::9");
    }

    #[test]
    fn what_the_cluster_has_not_is_refused() {
        let check = |spec, known, expected: &str| assert_eq!(settled(spec, None, known), expected);
        check(
            json!({"ipFamilyPolicy": REQUIRE}),
            &BOTH[..1],
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": this cluster is not configured for dual-stack services",
        );
        check(
            json!({"ipFamilies": [IPV6]}),
            &BOTH[..1],
            "spec.ipFamilies[0]: Invalid value: \"IPv6\": not configured on this cluster",
        );
        check(
            json!({"clusterIPs": ["fd00::1"]}),
            &BOTH[..1],
            "spec.clusterIPs[0]: Invalid value: [\"fd00::1\"]: IPv6 is not configured on this cluster",
        );
        check(
            json!({"ipFamilies": [IPV4, IPV6]}),
            BOTH,
            "spec.ipFamilyPolicy: Invalid value: \"SingleStack\": must be 'RequireDualStack' or 'PreferDualStack' \
             when multiple IP families are specified",
        );
    }

    #[test]
    fn a_second_family_comes_and_goes_by_the_policy_alone() {
        let single = || json!({"ipFamilyPolicy": SINGLE, "ipFamilies": [IPV4], "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9"]});
        let both = |policy| {
            json!({"ipFamilyPolicy": policy, "ipFamilies": BOTH,
                "clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"]})
        };
        let with = |mut spec: Value, field: &str, value: Value| {
            spec.put(field, value);
            spec
        };
        let check = |spec, before, expected: &str| assert_eq!(settled(spec, Some(before), BOTH), expected);
        let upgraded = with(single(), "ipFamilyPolicy", json!(REQUIRE));
        check(upgraded, single(), "RequireDualStack IPv4,IPv6 10.96.0.9");
        let downgraded = with(both(PREFER), "ipFamilyPolicy", json!(SINGLE));
        check(downgraded, both(PREFER), "SingleStack IPv4 10.96.0.9");
        let kept = with(single(), "ipFamilyPolicy", json!(PREFER));
        check(kept.clone(), kept, "PreferDualStack IPv4 10.96.0.9");
        check(
            with(both(REQUIRE), "clusterIPs", json!(["10.96.0.9"])),
            both(REQUIRE),
            "spec.ipFamilyPolicy: Invalid value: \"RequireDualStack\": must be 'SingleStack' to release the secondary cluster IP",
        );
        check(
            with(single(), "ipFamilies", json!([IPV6])),
            single(),
            "spec.ipFamilies[0]: Invalid value: [\"IPv6\"]: may not change once set",
        );
    }
}
