use hickory_proto::op::Edns;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::doors::Cluster;

fn cluster() -> Cluster {
    let service = |name: &str, spec: Value| {
        let value = json!({"metadata": {"name": name, "namespace": "shop"}, "spec": spec});
        std::sync::Arc::new(serde_json::from_value(value).expect("a service"))
    };
    let slice = |of: &str, endpoints: Value, ports: Value| {
        let value = json!({"metadata": {"name": format!("{of}-x"), "namespace": "shop",
            "labels": {"kubernetes.io/service-name": of}}, "addressType": "IPv4", "endpoints": endpoints, "ports": ports});
        std::sync::Arc::new(serde_json::from_value(value).expect("a slice"))
    };
    let db = json!([
        {"addresses": ["10.64.0.2"], "hostname": "db-0", "conditions": {"ready": true}},
        {"addresses": ["10.64.0.3"], "conditions": {"ready": true}},
        {"addresses": ["10.64.0.4"], "hostname": "db-2", "conditions": {"ready": false}},
    ]);
    let many: Vec<Value> =
        (1..=200).map(|host| json!({"addresses": [format!("10.64.1.{host}")], "conditions": {}})).collect();
    Cluster {
        services: vec![
            service(
                "web",
                json!({"clusterIP": "10.96.0.9", "clusterIPs": ["10.96.0.9", "fd00::9"],
                "ports": [{"name": "http", "port": 80}]}),
            ),
            service("db", json!({"clusterIP": "None", "ports": [{"name": "sql", "port": 5432}]})),
            service("all", json!({"clusterIP": "None", "publishNotReadyAddresses": true})),
            service("many", json!({"clusterIP": "None"})),
            service("out", json!({"type": "ExternalName", "externalName": "Example.COM."})),
            service("in", json!({"type": "ExternalName", "externalName": "web.shop.svc.cluster.local"})),
            service("loop", json!({"type": "ExternalName", "externalName": "loop.shop.svc.cluster.local"})),
        ],
        slices: vec![
            slice("db", db.clone(), json!([{"name": "sql", "port": 5432, "protocol": "TCP"}])),
            slice("all", db, json!([])),
            slice("many", json!(many), json!([])),
        ],
        ..Cluster::default()
    }
}

fn question(name: &str, kind: RecordType) -> Message {
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.add_query(Query::query(absolute(name).expect("a name"), kind));
    message
}

fn ask(message: &Message, transport: Transport) -> Outcome {
    answer(&Names::new(&cluster()), &message.to_vec().expect("bytes"), transport)
}

fn replied(outcome: Outcome) -> (Message, usize) {
    let Outcome::Reply(bytes) = outcome else { panic!("{outcome:?}") };
    (Message::from_vec(&bytes).expect("our own message"), bytes.len())
}

/// The answer as one line: data in order, or what there is instead.
fn check(name: &str, kind: RecordType, expected: &str) {
    let line = match ask(&question(name, kind), Transport::Udp) {
        Outcome::Forward => "elsewhere".to_owned(),
        Outcome::Complete(partial) => format!("{} then elsewhere", data(&partial.response.answers)),
        Outcome::Drop => "dropped".to_owned(),
        Outcome::Reply(bytes) => {
            let response = Message::from_vec(&bytes).expect("our own message");
            let soa = response.authorities.iter().any(|it| it.record_type() == RecordType::SOA);
            match (response.answers.is_empty(), response.metadata.response_code, soa) {
                (false, ResponseCode::NoError, false) => data(&response.answers),
                (true, ResponseCode::NoError, true) => "no such data".to_owned(),
                (true, ResponseCode::NXDomain, true) => "no such name".to_owned(),
                (_, code, _) => format!("{code}"),
            }
        }
    };
    assert_eq!(line, expected, "{name} {kind}");
}

fn data(records: &[Record]) -> String {
    records.iter().map(|record| record.data.to_string()).collect::<Vec<_>>().join(", ")
}

#[test]
fn names_mean_what_they_mean_in_every_cluster() {
    use RecordType::{A, AAAA, CNAME, PTR, SRV, TXT};
    check("web.shop.svc.cluster.local", A, "10.96.0.9");
    check("WEB.Shop.svc.CLUSTER.local", A, "10.96.0.9");
    check("web.shop.svc.cluster.local", AAAA, "fd00::9");
    check("_http._tcp.web.shop.svc.cluster.local", SRV, "0 100 80 web.shop.svc.cluster.local.");
    check("9.0.96.10.in-addr.arpa", PTR, "web.shop.svc.cluster.local.");
    check("db.shop.svc.cluster.local", A, "10.64.0.2, 10.64.0.3");
    check("db.shop.svc.cluster.local", AAAA, "no such data");
    check("db-0.db.shop.svc.cluster.local", A, "10.64.0.2");
    check("10-64-0-3.db.shop.svc.cluster.local", A, "10.64.0.3");
    check("db-2.db.shop.svc.cluster.local", A, "no such name");
    check("db-2.all.shop.svc.cluster.local", A, "10.64.0.4");
    check(
        "_sql._tcp.db.shop.svc.cluster.local",
        SRV,
        "0 50 5432 10-64-0-3.db.shop.svc.cluster.local., 0 50 5432 db-0.db.shop.svc.cluster.local.",
    );
    check("10-64-0-7.shop.pod.cluster.local", A, "10.64.0.7");
    check("10-64-0.shop.pod.cluster.local", A, "no such name");
    check("dns-version.cluster.local", TXT, "1.1.0");
    check("in.shop.svc.cluster.local", A, "web.shop.svc.cluster.local., 10.96.0.9");
    check("in.shop.svc.cluster.local", CNAME, "web.shop.svc.cluster.local.");
    check("out.shop.svc.cluster.local", A, "example.com. then elsewhere");
    check("out.shop.svc.cluster.local", CNAME, "example.com.");
}

#[test]
fn what_is_not_there_is_denied_and_what_is_not_ours_asked_for_elsewhere() {
    use RecordType::{A, AXFR, PTR};
    check("none.shop.svc.cluster.local", A, "no such name");
    check("shop.svc.cluster.local", A, "no such data");
    check("cluster.local", A, "no such data");
    check("cluster.local", AXFR, "Query Refused");
    // What search paths make of other names.
    check("example.com.shop.svc.cluster.local", A, "no such name");
    check("example.com", A, "elsewhere");
    check("notcluster.local", A, "elsewhere");
    check("1.2.0.192.in-addr.arpa", PTR, "elsewhere");
}

#[test]
fn a_name_that_means_itself_ends() {
    let (response, _) = replied(ask(&question("loop.shop.svc.cluster.local", RecordType::A), Transport::Udp));
    assert_eq!(response.answers.len(), MAX_ALIASES);
}

#[test]
fn what_does_not_fit_is_cut_and_asked_for_by_tcp() {
    let plain = question("many.shop.svc.cluster.local", RecordType::A);
    let (response, length) = replied(ask(&plain, Transport::Udp));
    assert!(response.metadata.truncation && length <= PLAIN_BYTES, "{length}");
    let mut extended = plain.clone();
    let mut edns = Edns::new();
    edns.set_max_payload(60_000);
    extended.set_edns(edns);
    let (response, length) = replied(ask(&extended, Transport::Udp));
    assert!(response.metadata.truncation && response.edns.is_some() && length <= UNCUT_BYTES, "{length}");
    let (response, _) = replied(ask(&plain, Transport::Tcp));
    assert!(!response.metadata.truncation);
    assert_eq!(response.answers.len(), 200);
}

#[test]
fn addresses_take_turns() {
    let first = |id| {
        let mut message = question("db.shop.svc.cluster.local", RecordType::A);
        message.metadata.id = id;
        replied(ask(&message, Transport::Udp)).0.answers[0].data.to_string()
    };
    assert_eq!([first(2), first(3)], ["10.64.0.2", "10.64.0.3"]);
}

#[test]
fn an_unknown_version_of_edns_and_other_operations_are_refused() {
    let mut message = question("web.shop.svc.cluster.local", RecordType::A);
    message.metadata.op_code = OpCode::Status;
    assert_eq!(replied(ask(&message, Transport::Udp)).0.metadata.response_code, ResponseCode::NotImp);
    let mut message = question("web.shop.svc.cluster.local", RecordType::A);
    let mut edns = Edns::new();
    edns.set_version(1);
    message.set_edns(edns);
    let (response, _) = replied(ask(&message, Transport::Udp));
    assert!(response.answers.is_empty());
    assert_eq!(response.edns.map(|edns| edns.rcode_high()), Some(1));
}

#[test]
fn somebody_elses_part_is_joined_to_ours() {
    let Outcome::Complete(partial) = ask(&question("out.shop.svc.cluster.local", RecordType::A), Transport::Udp) else {
        panic!("elsewhere");
    };
    let asked = Message::from_vec(&partial.question).expect("a question");
    assert_eq!(asked.queries[0].name().to_ascii(), "example.com.");
    let mut other = Message::response(0, OpCode::Query);
    other.answers.push(Record::from_rdata(asked.queries[0].name().clone(), 9, RData::A(A([192, 0, 2, 1].into()))));
    let joined = completed(*partial, Some(&other.to_vec().expect("bytes")));
    assert_eq!(data(&Message::from_vec(&joined).expect("bytes").answers), "example.com., 192.0.2.1");
}

proptest! {
    #[test]
    fn no_bytes_are_too_strange(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        let names = Names::new(&cluster());
        let _any = answer(&names, &bytes, Transport::Udp);
    }

    #[test]
    fn no_change_of_a_question_is_too_strange(at in 0usize..60, byte in any::<u8>(), cut in 0usize..60) {
        let mut bytes = question("_sql._tcp.db.shop.svc.cluster.local", RecordType::SRV).to_vec().expect("bytes");
        let length = bytes.len();
        bytes[at % length] = byte;
        bytes.truncate(length - cut.min(length));
        if let Outcome::Reply(reply) = answer(&Names::new(&cluster()), &bytes, Transport::Udp) {
            prop_assert!(reply.len() <= UNCUT_BYTES);
            prop_assert_eq!(&reply[..2], &bytes[..2]);
        }
    }
}
