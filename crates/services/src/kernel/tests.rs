use super::*;

fn door(name: &str, backends: &[&str]) -> Door {
    let backends: Vec<SocketAddr> = backends.iter().map(|it| it.parse().expect("an address")).collect();
    Door {
        name: name.to_owned(),
        protocol: Protocol::Tcp,
        family: Family::V4,
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
    let table = table(Family::V4, &[door("a/web:80", &["10.64.0.2:8080", "10.64.0.3:8080"]), closed]);
    assert_eq!((names(&table, "door-"), names(&table, "node-")), (vec!["door-0"], vec!["node-0"]));
    let Elements::Data { elements: backends, .. } = elements(&table, "door-0-backends") else { panic!("data") };
    assert_eq!(backends.len(), 2);
    let Elements::Keys(keys) = elements(&table, CLOSED) else { panic!("keys") };
    assert_eq!(*keys, [vec![10, 96, 0, 8, 6, 0, 0, 0, 0, 80, 0, 0]]);
}

#[test]
fn node_ports_of_processes_are_left_to_user_space() {
    let table = table(Family::V4, &[door("a/web:80", &["127.64.0.2:8080"])]);
    assert_eq!((names(&table, "door-"), names(&table, "node-")), (vec!["door-0"], vec![]));
}

#[test]
fn when_a_backend_goes_only_its_own_clients_move() {
    let all: Vec<SocketAddr> = (1..=5).map(|host| SocketAddr::from(([10, 64, 0, host], 80))).collect();
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

#[test]
fn ipv6_has_a_table_of_its_own_once_a_service_has_it() {
    let both = [Family::V4, Family::V6];
    let v4 = door("a/web:80", &["10.64.0.2:8080"]);
    let v6 = Door {
        family: Family::V6,
        addresses: vec!["fd00:10:96::9".parse().expect("an address")],
        sticky: Some(std::time::Duration::from_secs(1)),
        ..door("a/web:80", &["[fd5c::2]:8080", "[fd5c::3]:8080"])
    };
    let families =
        |doors: &[Door], known: &[Family]| tables(doors, known).iter().map(|table| table.family).collect::<Vec<_>>();
    assert_eq!(families(std::slice::from_ref(&v4), &both), [Family::V4]);
    assert_eq!(families(&[v4.clone(), v6.clone()], &[Family::V4]), [Family::V4]);
    assert_eq!(families(&[v4.clone(), v6.clone()], &both), both);
    let [_, table] = &tables(&[v4, v6], &both)[..] else { panic!("two") };
    let Elements::Chains(ways) = elements(table, ADDRESSES) else { panic!("chains") };
    assert_eq!((ways.len(), ways[0].0.len()), (1, 24));
    let Elements::Data { bytes, elements: groups } = elements(table, "door-0-backends") else { panic!("data") };
    assert_eq!((*bytes, groups.len()), (20, 256), "clients stay by the last byte of their addresses");
    let Elements::Keys(hairpins) = elements(table, HAIRPINS) else { panic!("keys") };
    assert_eq!(hairpins.iter().map(Vec::len).collect::<Vec<_>>(), [32, 32]);
}
