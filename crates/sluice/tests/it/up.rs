//! How `sluice up` starts, refuses to start, and ends.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::sluice::{Engine, Said, directory, run, sluice};

const ANY: &str = "127.0.0.1:0";

/// A start that is refused.
fn refused(data: &Path, api: &str, gateway: &str) -> Said {
    let data = data.to_str().expect("a plain name");
    run(sluice(["up", "--data", data, "--api", api, "--gateway", gateway]))
}

/// The exit code, and everything that standard error must hold.
#[track_caller]
fn check(said: &Said, code: i32, parts: &[&str]) {
    assert_eq!((said.code, said.out.as_str()), (code, ""), "{}", said.err);
    for part in parts {
        assert!(said.err.contains(part), "no `{part}` in:\n{}", said.err);
    }
}

fn taken() -> (TcpListener, String) {
    let listener = TcpListener::bind(ANY).expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    (listener, address)
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).permissions().mode() & 0o7777
}

#[test]
fn it_says_in_one_line_when_it_is_ready_and_ends_well_when_it_is_told_to() {
    for signal in [Signal::TERM, Signal::INT] {
        let home = directory();
        let engine = Engine::start(&home.path().join("data"), &[]);
        let fields: Vec<&String> = engine.ready.as_object().expect("an object").keys().collect();
        assert_eq!(fields, ["api", "dns", "gateway", "kubeconfig", "ready_ms"]);
        assert!(engine.ready["ready_ms"].is_u64(), "{}", engine.ready);
        for (field, scheme) in [("api", "https://"), ("gateway", "http://")] {
            let address: SocketAddr = engine.text(field).strip_prefix(scheme).expect(field).parse().expect(field);
            assert!(address.port() != 0, "{address}");
        }
        assert_eq!(engine.kubeconfig(), home.path().join("data/kubeconfig"));
        assert_eq!(mode(&engine.kubeconfig()), 0o600);
        let said = engine.ask(&["get", "namespaces", "default", "-o", "name"]);
        assert_eq!((said.code, said.out.as_str()), (0, "namespace/default\n"), "{}", said.err);
        let said = engine.ask(&["get", "pods/none"]);
        assert_eq!((said.code, said.err.as_str()), (1, "error: pods \"none\" not found\n"), "{}", said.out);
        assert_eq!(engine.stop(signal), (0, String::new()));
    }
}

#[test]
fn the_kubeconfig_can_lie_elsewhere() {
    let home = directory();
    let kubeconfig = home.path().join("elsewhere.yaml");
    let engine =
        Engine::start(&home.path().join("data"), &["--kubeconfig", kubeconfig.to_str().expect("a plain name")]);
    assert_eq!((engine.kubeconfig(), mode(&kubeconfig)), (kubeconfig.clone(), 0o600));
    assert!(!home.path().join("data/kubeconfig").exists());
    assert_eq!(engine.stop(Signal::TERM).0, 0);
}

#[test]
fn without_controllers_there_is_an_api_and_nothing_else() {
    let home = directory();
    let engine = Engine::start(&home.path().join("data"), &["--no-controllers"]);
    assert_eq!(engine.ready["gateway"], Value::Null);
    // A node registers before the ready line, so there will be none.
    for (kind, names) in [("nodes", ""), ("gatewayclasses", ""), ("namespaces/default", "namespace/default\n")] {
        let said = engine.ask(&["get", kind, "-o", "name"]);
        assert_eq!((said.code, said.out.as_str()), (0, names), "{kind}: {}", said.err);
    }
    assert_eq!(engine.stop(Signal::TERM).0, 0);
}

#[test]
fn others_pass_through_the_data_but_see_nothing_of_them() {
    let home = directory();
    let data = home.path().join("new/data");
    let engine = Engine::start_with("umask 0", &data, &[]);
    let entries = || fs::read_dir(&data).expect("a directory").map(|entry| entry.expect("an entry"));
    let name = |entry: &fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    for secret in ["kubeconfig", "logs", "pki", "store.log.0", "store.log.1", "store.redb"] {
        assert!(entries().any(|entry| name(&entry) == secret), "{secret}");
    }
    // Pods pass through to their own folders and to the volumes of their claims; the rest is nobody else's.
    let open: Vec<_> = entries().filter(|entry| mode(&entry.path()) & 0o077 != 0).collect();
    let passed =
        open.iter().all(|entry| ["pods", "volumes"].contains(&name(entry).as_str()) && mode(&entry.path()) == 0o711);
    assert!(passed, "{open:?}");
    let keys = fs::read_dir(data.join("pki")).expect("a directory").map(|entry| mode(&entry.expect("an entry").path()));
    assert_eq!(keys.filter(|mode| *mode != 0o600).count(), 0);
    assert_eq!((mode(&data), mode(&home.path().join("new"))), (0o711, 0o711));
    assert_eq!(engine.stop(Signal::TERM).0, 0);
    // What an older version or a copy has left open is closed, and a directory stays as its owner wants it.
    for (path, open) in [(data.clone(), 0o750), (data.join("pki"), 0o755), (data.join("store.redb"), 0o644)] {
        fs::set_permissions(path, fs::Permissions::from_mode(open)).expect("our own");
    }
    let engine = Engine::start_with("umask 077", &data, &[]);
    let found = ["", "pki", "store.redb", "pods"].map(|name| mode(&data.join(name)));
    assert_eq!(found, [0o750, 0o700, 0o600, 0o711]);
    assert_eq!(engine.stop(Signal::TERM).0, 0);
}

#[test]
fn a_taken_address_is_10_and_names_the_flag() {
    let home = directory();
    let (_listener, address) = taken();
    let in_use = |flag| format!("error: cannot listen on `{flag} {address}`: the address is in use\nhint: ");
    check(&refused(home.path(), &address, ANY), 10, &[&in_use("--api"), "`--api ADDR`"]);
    check(&refused(home.path(), ANY, &address), 10, &[&in_use("--gateway"), "`--gateway ADDR`"]);
}

#[test]
fn an_address_of_another_machine_is_named_with_its_flag() {
    let home = directory();
    // Set aside for documentation, so no machine has it.
    let nobodys = "192.0.2.1:0";
    for (flag, said) in
        [("--api", refused(home.path(), nobodys, ANY)), ("--gateway", refused(home.path(), ANY, nobodys))]
    {
        check(
            &said,
            1,
            &[
                &format!("error: cannot listen on `{flag} {nobodys}`: "),
                &format!("hint: choose another address with `{flag} ADDR`"),
            ],
        );
    }
}

#[test]
fn addresses_of_another_engine_are_taken() {
    let (home, other) = (directory(), directory());
    let engine = Engine::start(home.path(), &[]);
    let (api, gateway) = (&engine.text("api")["https://".len()..], &engine.text("gateway")["http://".len()..]);
    check(&refused(other.path(), api, ANY), 10, &[api, "`--api ADDR`"]);
    check(&refused(other.path(), ANY, gateway), 10, &[gateway, "`--gateway ADDR`"]);
    assert_eq!(engine.stop(Signal::TERM).0, 0);
}

#[test]
fn a_directory_of_a_running_engine_is_11_and_free_again_after_it() {
    let home = directory();
    let path = home.path().to_str().expect("a plain name");
    let engine = Engine::start(home.path(), &["--no-controllers"]);
    check(&refused(home.path(), ANY, ANY), 11, &[path, "another engine", "hint:", "`--data DIR`"]);
    assert_eq!(engine.ask(&["get", "namespaces"]).code, 0, "the first engine is unharmed");
    assert_eq!(engine.stop(Signal::TERM).0, 0);
    assert_eq!(Engine::start(home.path(), &["--no-controllers"]).stop(Signal::TERM).0, 0);
}

#[test]
fn a_directory_that_cannot_be_written_is_12() {
    let home = directory();
    let file = home.path().join("file");
    fs::write(&file, "").expect("our own directory");
    // Also root can make no directory below these.
    for path in [file.as_path(), &file.join("data"), Path::new("/proc/sluice")] {
        let named = format!("the data directory `{}` cannot be written: ", path.display());
        check(&refused(path, ANY, ANY), 12, &[&named, "(os error ", "hint:", "`--data DIR`"]);
    }
}

#[test]
fn data_of_a_newer_version_are_13_and_stay_so() {
    let home = directory();
    assert_eq!(Engine::start(home.path(), &["--no-controllers"]).stop(Signal::TERM).0, 0);
    let store = home.path().join("store.redb");
    {
        let database = redb::Database::open(&store).expect("the engine has let go of it");
        let write = database.begin_write().expect("nobody else writes");
        let meta = redb::TableDefinition::<&str, u64>::new("meta");
        write.open_table(meta).expect("it is there").insert("format", 7).expect("there is room");
        write.commit().expect("there is room");
    }
    let path = home.path().to_str().expect("a plain name");
    // Twice, because the first refusal must not have made them older.
    for _ in 0..2 {
        check(&refused(home.path(), ANY, ANY), 13, &[path, "newer version of sluice", "hint:", "or a newer one"]);
    }
}

#[test]
fn an_api_that_cannot_be_reached_is_14() {
    let home = directory();
    let missing = home.path().join("none");
    let get = |kubeconfig: &Path| run(sluice(["get", "pods", "--kubeconfig", kubeconfig.to_str().expect("plain")]));
    check(&get(&missing), 14, &[missing.to_str().expect("plain"), "hint:", "`sluice up`"]);
    let engine = Engine::start(home.path(), &["--no-controllers"]);
    let kubeconfig = engine.kubeconfig();
    assert_eq!(get(&kubeconfig).code, 0);
    assert_eq!(engine.stop(Signal::TERM).0, 0);
    check(&get(&kubeconfig), 14, &["hint:", "`sluice up`"]);
}

#[test]
fn a_full_disk_refuses_writes_and_keeps_what_was_acknowledged() {
    /// Room for the store's own file, and for a few of the objects.
    const MOST_BYTES: u64 = 4 << 20;
    let home = directory();
    // A limit that is hit shall be an error, not a signal that kills.
    let limit = format!("trap '' XFSZ; ulimit -f {}", MOST_BYTES / 512);
    let engine = Engine::start_with(&limit, home.path(), &["--no-controllers"]);
    let manifest = home.path().join("large.yaml");
    let apply = |engine: &Engine, name: &str, bytes: usize| {
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
                            "data": {"text": "x".repeat(bytes)}});
        fs::write(&manifest, object.to_string()).expect("there is room for a manifest");
        engine.ask(&["apply", "-f", manifest.to_str().expect("plain")])
    };
    let mut kept = String::new();
    let refusal = (0..8).find_map(|number| {
        let said = apply(&engine, &format!("large-{number}"), 900_000);
        if said.code == 0 {
            kept += &format!("configmap/large-{number}\n");
        }
        (said.code != 0).then_some(said)
    });
    check(&refusal.expect("the disk fills up"), 1, &["cannot apply ConfigMap", "the disk is full"]);
    let there = |engine: &Engine| engine.ask(&["get", "configmaps", "-o", "name"]).out;
    assert_eq!(there(&engine), kept, "nothing that was refused");
    assert!(apply(&engine, "small", 1_000).code == 0, "what there is room for is taken");
    assert_eq!(engine.stop(Signal::TERM).0, 0);
    let engine = Engine::start(home.path(), &["--no-controllers"]);
    assert_eq!(there(&engine), format!("{kept}configmap/small\n"));
    assert_eq!(engine.stop(Signal::TERM).0, 0);
}

#[test]
fn requests_to_the_gateway_are_logged_with_whom_a_trusted_proxy_names() {
    let home = directory();
    let words = ["--access-log", "json", "--trusted-proxies", "127.0.0.0/8,::1"];
    let engine = Engine::start(&home.path().join("data"), &words);
    let gateway = engine.text("gateway").trim_start_matches("http://").to_owned();
    let mut client = TcpStream::connect(gateway).expect("the gateway listens");
    let request = "GET /missing?token=secret HTTP/1.1\r\nHost: shop.example\r\nX-Request-Id: mine\r\n\
        X-Forwarded-For: 203.0.113.7\r\nConnection: close\r\n\r\n";
    client.write_all(request.as_bytes()).expect("it is taken");
    let mut answer = String::new();
    client.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 404") && answer.contains("x-request-id: mine\r\n"), "{answer}");
    let (code, log) = engine.stop(Signal::TERM);
    assert!(code == 0 && !log.contains("secret"), "{log}");
    let mut line: Value = serde_json::from_str(&log).expect("one line of JSON");
    for field in ["time", "seconds", "bytes"] {
        assert!(line.as_object_mut().and_then(|line| line.remove(field)).is_some(), "no `{field}` in {line}");
    }
    assert_eq!(
        line,
        json!({"client": "203.0.113.7", "method": "GET", "host": "shop.example", "path": "/missing", "protocol": "HTTP/1.1",
            "status": 404, "requestId": "mine", "reason": "no-route"})
    );
    let said = run(sluice(["up", "--trusted-proxies", "10.0.0.0/33"]));
    assert_eq!(said.code, 2);
    assert!(said.err.contains("`10.0.0.0/33` is neither an address nor a range of them"), "{}", said.err);
}
