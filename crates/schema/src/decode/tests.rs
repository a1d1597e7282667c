use proptest::prelude::*;
use serde_json::json;

use super::*;

fn kind(group: &str, kind: &str) -> &'static Kind {
    Catalog::builtin().kinds().iter().find(|k| k.is(group, kind)).expect("a built-in kind")
}

fn read(k: &Kind, format: Format, body: &str) -> Result<Decoded, String> {
    object(&Expected::from(k), format, body.as_bytes()).map_err(|e| e.to_string())
}

/// The error after the words that every refusal of its sort has.
fn refused(k: &Kind, body: &str) -> String {
    let text = read(k, Format::Json, body).expect_err("refused");
    text.split_once(&format!("cannot be handled as a {}: ", k.kind)).map_or(text.clone(), |(_, rest)| rest.to_owned())
}

#[test]
fn wrong_types_are_told_as_go_tells_them() {
    let deployment = kind("apps", "Deployment");
    let pod = kind("", "Pod");
    let cases = [
        (
            deployment,
            r#"{"spec":{"replicas":"3"}}"#,
            "string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            deployment,
            r#"{"spec":{"replicas":3000000000}}"#,
            "number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            deployment,
            r#"{"spec":{"strategy":{"rollingUpdate":{"maxSurge":true}}}}"#,
            "bool into Go struct field RollingUpdateDeployment.spec.strategy.rollingUpdate.maxSurge of type int32",
        ),
        (
            pod,
            r#"{"spec":{"containers":{}}}"#,
            "object into Go struct field PodSpec.spec.containers of type []v1.Container",
        ),
        (
            pod,
            r#"{"spec":{"containers":[{"command":"x"}]}}"#,
            "string into Go struct field Container.spec.containers.command of type []string",
        ),
        (
            pod,
            r#"{"spec":{"containers":[{"ports":[{"containerPort":80.0}]}]}}"#,
            "number 80.0 into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            pod,
            r#"{"spec":{"containers":[{"livenessProbe":{"httpGet":{"port":{}}}}]}}"#,
            "object into Go struct field HTTPGetAction.spec.containers.livenessProbe.ProbeHandler.httpGet.port of type int32",
        ),
        (
            pod,
            r#"{"spec":{"containers":[{"resources":{"limits":[]}}]}}"#,
            "array into Go struct field ResourceRequirements.spec.containers.resources.limits of type v1.ResourceList",
        ),
        (
            pod,
            r#"{"metadata":{"labels":{"a":1}}}"#,
            "number into Go struct field ObjectMeta.metadata.labels of type string",
        ),
        (
            kind("", "PersistentVolumeClaim"),
            r#"{"spec":{"accessModes":"x"}}"#,
            "string into Go struct field PersistentVolumeClaimSpec.spec.accessModes of type []v1.PersistentVolumeAccessMode",
        ),
    ];
    for (kind, body, expected) in cases {
        assert_eq!(refused(kind, body), format!("json: cannot unmarshal {expected}"), "{body}");
    }
    assert_eq!(refused(kind("", "Secret"), r#"{"data":{"a":"!!"}}"#), "illegal base64 data at input byte 0");
    let quantity = refused(pod, r#"{"spec":{"containers":[{"resources":{"limits":{"cpu":"x"}}}]}}"#);
    assert!(quantity.starts_with("quantities must match the regular expression"), "{quantity}");
}

#[test]
fn what_is_no_object_of_the_kind_is_refused() {
    let map = kind("", "ConfigMap");
    let unrecognized = "the object provided is unrecognized (must be of type ConfigMap): ";
    let syntax = format!("{unrecognized}couldn't get version/kind; json parse error: ");
    for (body, expected) in [
        ("", "unexpected end of JSON input (<empty>)"),
        ("   ", "unexpected end of JSON input (202020)"),
        ("{", "unexpected end of JSON input ({)"),
        (r#"{"a":}"#, r#"invalid character '}' looking for beginning of value ({"a":})"#),
        ("{'a':1}", r"invalid character '\'' looking for beginning of object key string ({'a':1})"),
        ("\u{0}\u{1}", r"invalid character '\x00' looking for beginning of value (0001)"),
        ("{}{", "invalid character '{' after top-level value ({}{)"),
    ] {
        assert_eq!(read(map, Format::Json, body), Err(format!("{syntax}{expected}")));
    }
    let other = |body: &str| read(map, Format::Json, body).expect_err("refused");
    assert_eq!(
        other(r#"{"apiVersion":"v1","kind":"Secret","data":{"a":"MQ=="}}"#),
        "Secret in version \"v1\" cannot be handled as a ConfigMap: converting (v1.Secret) to (core.ConfigMap): unknown conversion"
    );
    assert_eq!(
        other(r#"{"apiVersion":"v2","kind":"ConfigMap"}"#),
        "ConfigMap in version \"v2\" cannot be handled as a ConfigMap: no kind \"ConfigMap\" is registered for version \"v2\" in \
         scheme \"pkg/runtime/scheme.go:111\""
    );
    let hpa = Catalog::builtin().resource("autoscaling", "v2", "horizontalpodautoscalers").expect("built in");
    assert_eq!(
        read(hpa, Format::Json, r#"{"apiVersion":"autoscaling/v1","kind":"HorizontalPodAutoscaler","spec":{}}"#),
        Err("the API version in the data (autoscaling/v1) does not match the expected API version (autoscaling/v2)"
            .into())
    );
    assert_eq!(
        read(map, Format::Protobuf, "x"),
        Err(format!(
            "{unrecognized}provided data does not appear to be a protobuf message, expected prefix [107 56 115 0] (78)"
        ))
    );
}

#[test]
fn odd_fields_are_noticed_in_the_order_of_the_document() {
    let body = r#"{"metadata":{"name":"a","bar":1,"name":"b"},"data":{"a":"1","a":"2"},"foo":"x"}"#;
    let decoded = read(kind("", "ConfigMap"), Format::Json, body).expect("readable");
    let expected = [
        "unknown field \"metadata.bar\"",
        "duplicate field \"metadata.name\"",
        "duplicate field \"data.a\"",
        "unknown field \"foo\"",
    ];
    assert_eq!(decoded.notices, expected);
    assert_eq!(decoded.object["data"]["a"], "2");
    assert!(decoded.object.get("foo").is_none());
    let nested = r#"{"spec":{"template":{"spec":{"containers":[{"imagePullPolice":"x"}]}},"replica":1}}"#;
    let decoded = read(kind("apps", "Deployment"), Format::Json, nested).expect("readable");
    assert_eq!(
        strict_text(&decoded.notices),
        "strict decoding error: unknown field \"spec.template.spec.containers[0].imagePullPolice\", unknown field \"spec.replica\""
    );
}

#[test]
fn yaml_is_of_version_1_1_and_one_document() {
    let map = kind("", "ConfigMap");
    let yaml = |body: &str| read(map, Format::Yaml, body);
    let decoded =
        yaml("metadata: {name: two}\ndata: {a: &x v, b: *x}\n---\nmetadata: {name: three}\n").expect("readable");
    assert_eq!(decoded.object["metadata"]["name"], "two");
    assert_eq!(decoded.object["data"], json!({"a": "v", "b": "v"}));
    let decoded =
        yaml("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: d\ndata:\n  a: x\n  a: z\n").expect("readable");
    assert_eq!(decoded.notices, ["line 7: key \"a\" already set in map"]);
    assert_eq!(
        strict_text(&decoded.notices),
        "strict decoding error: yaml: unmarshal errors:\n  line 7: key \"a\" already set in map"
    );
    assert_eq!(decoded.object["data"]["a"], "z");
    for (scalar, found) in [("yes", "bool"), ("y", "bool"), ("0644", "number"), ("1e3", "number"), ("[]", "array")] {
        let error = yaml(&format!("data: {{a: {scalar}}}")).expect_err("no string");
        assert!(
            error.ends_with(&format!(
                "json: cannot unmarshal {found} into Go struct field ConfigMap.data of type string"
            )),
            "{error}"
        );
    }
    assert_eq!(yaml("---\n").map(|d| d.object["kind"].clone()), Ok(json!("ConfigMap")));
    for (body, expected) in [
        ("a: b: c\n", "yaml: mapping values are not allowed in this context (613a20623a20630a)"),
        ("kind: ConfigMap\n  apiVersion: v1\n", "yaml: line 2: mapping values are not allowed in this context (6b"),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata:\n\tname: x\n",
            "yaml: line 4: found character that cannot start any token",
        ),
        ("kind: ConfigMap\ndata: {a: \"unclosed}\n", "yaml: line 3: found unexpected end of stream"),
        ("kind: ConfigMap\ndata: {a: *nope}\n", "yaml: unknown anchor 'nope' referenced"),
    ] {
        let error = yaml(body).expect_err("broken");
        assert!(error.contains(expected), "{body:?}: {error}");
    }
}

#[test]
fn values_become_canonical_and_nulls_vanish() {
    let body = r#"{"metadata":{"name":"p","creationTimestamp":null,"labels":{"a":null}},"spec":{"nodeName":null,
        "containers":[{"name":"c","resources":{"limits":{"cpu":0.5,"memory":"1024Mi"}}}]},
        "status":{"startTime":"2024-01-02T03:04:05.678+01:00"}}"#;
    let decoded = read(kind("", "Pod"), Format::Json, body).expect("readable").object;
    assert_eq!(decoded["metadata"], json!({"name": "p", "labels": {"a": ""}}));
    assert_eq!(decoded["spec"]["containers"][0]["resources"]["limits"], json!({"cpu": "500m", "memory": "1Gi"}));
    assert_eq!(decoded["status"]["startTime"], "2024-01-02T02:04:05Z");
    assert!(decoded["spec"].get("nodeName").is_none());
}

#[test]
fn an_object_is_completed_as_go_prints_it() {
    let printed = |group: &str, name: &str, mut object: Value| {
        complete(kind(group, name), &mut object);
        object
    };
    assert_eq!(
        printed(
            "apps",
            "Deployment",
            json!({"spec": {"selector": {}, "template": {"spec": {"containers": [{"name": "c", "stdin": false, "command": []}]}}}})
        ),
        json!({"metadata": {}, "spec": {"selector": {}, "strategy": {}, "template": {"metadata": {}, "spec": {"containers": [{"name": "c", "resources": {}}]}}}, "status": {}})
    );
    assert_eq!(
        printed("rbac.authorization.k8s.io", "Role", json!({"rules": []})),
        json!({"metadata": {}, "rules": null})
    );
    assert_eq!(printed("coordination.k8s.io", "Lease", json!({})), json!({"metadata": {}, "spec": {}}));
    let event = printed("", "Event", json!({}));
    assert_eq!(event["eventTime"], Value::Null);
    assert_eq!(event["firstTimestamp"], Value::Null);
    assert_eq!(event["source"], json!({}));
    assert_eq!(zero(kind("", "Pod"))["spec"], json!({"containers": null}));
}

#[test]
fn custom_resources_keep_what_their_schema_will_judge() {
    let body = br#"{"apiVersion":"a.b/v1","kind":"Widget","metadata":{"name":"w","bar":2},"spec":{"size":1,"size":2,"x":null}}"#;
    let catalog = Catalog::builtin();
    let expected = Expected {
        group: "a.b",
        version: "v1",
        kind: "Widget",
        ty: catalog.ty("io.k8s.api.core.v1.Pod").expect("pods"),
        custom: true,
    };
    let decoded = object(&expected, Format::Json, body).expect("readable");
    assert_eq!(decoded.notices, ["unknown field \"metadata.bar\"", "duplicate field \"spec.size\""]);
    assert_eq!(decoded.object["spec"], json!({"size": 2, "x": null}));
    let error = object(&expected, Format::Json, br#"{"apiVersion":"a.b/v1"}"#).expect_err("no kind");
    assert_eq!(error.cause(), r#"Object 'Kind' is missing in '{"apiVersion":"a.b/v1"}'"#);
}

#[test]
fn protobuf_bodies_are_read_by_their_tags() {
    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let mut out = vec![tag << 3 | 2, u8::try_from(bytes.len()).expect("a short field")];
        out.extend_from_slice(bytes);
        out
    }
    let label = [field(1, b"app"), field(2, b"a")].concat();
    let meta = [field(1, b"web"), field(11, &label)].concat();
    // Volume{name, volumeSource{secret{secretName, defaultMode 420}}}
    let secret = [field(1, b"s"), vec![3 << 3, 0xa4, 0x03]].concat();
    let volume = [field(1, b"v"), field(2, &field(6, &secret))].concat();
    let limits = field(1, &[field(1, b"cpu"), field(2, &field(1, b"1000m"))].concat());
    let container = [field(1, b"c"), field(8, &limits)].concat();
    let spec = [field(1, &volume), field(2, &container)].concat();
    let raw = [field(1, &meta), field(2, &spec)].concat();
    let type_meta = [field(1, b"v1"), field(2, b"Pod")].concat();
    let body = [b"k8s\0".to_vec(), field(1, &type_meta), field(2, &raw)].concat();
    let decoded = object(&Expected::from(kind("", "Pod")), Format::Protobuf, &body).expect("readable").object;
    let expected = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "labels": {"app": "a"}}, "spec": {
        "volumes": [{"name": "v", "secret": {"secretName": "s", "defaultMode": 420}}],
        "containers": [{"name": "c", "resources": {"limits": {"cpu": "1"}}}]}});
    assert_eq!(decoded, expected);
    for cut in 0..body.len() {
        drop(object(&Expected::from(kind("", "Pod")), Format::Protobuf, &body[..cut]));
    }
}

#[test]
fn depth_is_bounded_in_every_format() {
    let map = kind("", "ConfigMap");
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!("{}1{}", open.repeat(100_000), close.repeat(100_000));
        assert!(read(map, Format::Json, &deep).is_err());
        assert!(read(map, Format::Yaml, &deep).is_err());
    }
    let bomb = "a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\n\
                e: &e [*d,*d,*d,*d,*d,*d,*d,*d,*d]\nf: &f [*e,*e,*e,*e,*e,*e,*e,*e,*e]\ng: [*f,*f,*f,*f,*f,*f,*f,*f,*f]\n";
    let error = read(map, Format::Yaml, bomb).expect_err("too much");
    assert!(error.contains("excessive aliasing"), "{error}");
}

proptest! {
    #[test]
    fn random_bytes_never_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        for format in [Format::Json, Format::Yaml, Format::Protobuf] {
            let mut with_magic = b"k8s\0".to_vec();
            with_magic.extend_from_slice(&body);
            drop(object(&Expected::from(kind("", "Pod")), format, &body));
            drop(object(&Expected::from(kind("", "Pod")), format, &with_magic));
        }
    }

    #[test]
    fn messages_of_every_kind_never_panic(raw in proptest::collection::vec(any::<u8>(), 0..120), pick in 0_usize..1000) {
        let kinds = Catalog::builtin().kinds();
        let ty = kinds[pick % kinds.len()].ty();
        if let Ok(value) = crate::protobuf::decode(ty, &raw) {
            let mut completed = value;
            complete_as(ty, &mut completed);
        }
    }

    #[test]
    fn mutated_bodies_never_panic_and_stay_readable_twice(at in 0_usize..400, byte in any::<u8>()) {
        let mut body = br#"{"apiVersion":"v1","kind":"Pod","metadata":{"name":"p","labels":{"a":"b"}},"spec":{"containers":[{"name":"c",
            "image":"i:1","ports":[{"containerPort":80}],"resources":{"limits":{"cpu":"1"}},"livenessProbe":{"httpGet":{"port":"x"}}}],
            "volumes":[{"name":"v","emptyDir":{"sizeLimit":"1Gi"}}]},"status":{"startTime":"2024-01-02T03:04:05Z"}}"#.to_vec();
        let at = at % body.len();
        body[at] = byte;
        let pod = kind("", "Pod");
        drop(object(&Expected::from(pod), Format::Yaml, &body));
        if let Ok(decoded) = object(&Expected::from(pod), Format::Json, &body) {
            let mut again = decoded.object.clone();
            complete(pod, &mut again);
            let once = again.clone();
            prop_assert_eq!(typed(pod, &mut again), Ok(vec![]));
            complete(pod, &mut again);
            prop_assert_eq!(again, once);
        }
    }
}

/// Kinds whose times have microseconds, which the recording masks.
const MASKED: [&str; 3] = ["Event", "Lease", "PodCertificateRequest"];

/// Every object of a built-in kind in the answers below a folder, as text with its kind.
fn recorded_objects(dir: &std::path::Path) -> Vec<(&'static Kind, Value)> {
    let mut found = Vec::new();
    for file in crate::recorded::scenarios(dir) {
        let mut scenario = crate::recorded::scenario(&file);
        for step in scenario["steps"].as_array_mut().into_iter().flatten() {
            let ignored = step["ignore"].as_array().is_some_and(|all| !all.is_empty());
            let answer = step["answer"].take();
            let (api_version, name) = (answer["apiVersion"].as_str(), answer["kind"].as_str());
            let (Some(api_version), Some(name), false) = (api_version, name, ignored) else { continue };
            let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
            let kind = Catalog::builtin().kind(group, version, name).filter(|kind| kind.allows("get"));
            if let Some(kind) = kind.filter(|_| !MASKED.contains(&name)) {
                found.push((&**kind, answer));
            }
        }
    }
    found
}

/// What a real server printed is canonical: reading and completing it changes nothing.
#[test]
fn recorded_answers_are_read_and_printed_as_they_are() {
    const VALUES: [(&str, &str); 3] =
        [("\"<time>\"", "\"2024-01-01T00:00:00Z\""), ("\"<ips>\"", "[\"10.96.0.9\"]"), ("\"<port>\"", "30000")];
    let check = |dir: &std::path::Path, least: usize| {
        let objects = recorded_objects(dir);
        assert!(objects.len() > least, "{} objects in {}", objects.len(), dir.display());
        let mut differences = String::new();
        for (kind, answer) in objects {
            let text = VALUES.iter().fold(answer.to_string(), |text, (mask, value)| text.replace(mask, value));
            let expected: Value = serde_json::from_str(&text).expect("still JSON");
            let mut object = expected.clone();
            let notices = typed(kind, &mut object);
            complete(kind, &mut object);
            if notices != Ok(vec![]) || object != expected {
                differences.push_str(&format!("{notices:?}\n  want {expected}\n  got  {object}\n"));
            }
        }
        assert_eq!(differences, "");
    };
    check(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/apply"), 100);
    if let Some(dir) = std::env::var_os("SLUICE_RECORDED") {
        for area in ["defaults", "changes", "apply"] {
            check(&std::path::Path::new(&dir).join(area), 10);
        }
    }
}
