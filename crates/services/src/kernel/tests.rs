use super::*;

fn door(name: &str, backends: &[&str]) -> Door {
    let backends: Vec<SocketAddrV4> = backends.iter().map(|it| it.parse().expect("an address")).collect();
    Door {
        name: name.to_owned(),
        protocol: Protocol::Tcp,
        addresses: vec![[10, 96, 0, 9].into()],
        port: 80,
        node_port: Some(30_080),
        sticky: None,
        own: false,
        node_backends: backends.clone(),
        backends,
    }
}

fn names<'a>(table: &'a Table, of: &str) -> Vec<&'a str> {
    table.chains.iter().map(|chain| chain.name.as_str()).filter(|name| name.starts_with(of)).collect()
}

fn elements<'a>(table: &'a Table, name: &str) -> &'a Elements {
    &table.maps.iter().find(|map| map.name == name).expect("the table has this map").elements
}

#[test]
fn a_door_leads_to_its_backends_and_a_closed_one_refuses() {
    let mut closed = door("a/shut:80", &[]);
    closed.addresses = vec![[10, 96, 0, 8].into()];
    let table = table(&[door("a/web:80", &["10.64.0.2:8080", "10.64.0.3:8080"]), closed]);
    assert_eq!((names(&table, "door-"), names(&table, "node-")), (vec!["door-0"], vec!["node-0"]));
    let Elements::Data { elements: backends, .. } = elements(&table, "door-0-backends") else { panic!("data") };
    assert_eq!(backends.len(), 2);
    let Elements::Keys(keys) = elements(&table, CLOSED) else { panic!("keys") };
    assert_eq!(*keys, [vec![10, 96, 0, 8, 6, 0, 0, 0, 0, 80, 0, 0]]);
}

#[test]
fn node_ports_of_processes_are_left_to_user_space() {
    let table = table(&[door("a/web:80", &["127.64.0.2:8080"])]);
    assert_eq!((names(&table, "door-"), names(&table, "node-")), (vec!["door-0"], vec![]));
}

#[test]
fn when_a_backend_goes_only_its_own_clients_move() {
    let all: Vec<SocketAddrV4> = (1..=5).map(|host| SocketAddrV4::new([10, 64, 0, host].into(), 80)).collect();
    let (gone, rest) = all.split_last().expect("five");
    let mut moved = 0;
    for group in 0..=u8::MAX {
        let before = favourite(group, &all);
        if before == gone {
            moved += 1;
        } else {
            assert_eq!(favourite(group, rest), before, "group {group}");
        }
    }
    assert!((20..=100).contains(&moved), "{moved} of 256 groups had the fifth backend");
}
