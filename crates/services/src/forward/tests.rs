use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;

const PATIENCE: Duration = Duration::from_secs(10);

/// An address that no other test has: everything in 127.0.0.0/8 is this machine.
fn own(test: u8) -> Ipv4Addr {
    let [a, b, _, _] = std::process::id().to_be_bytes();
    let [_, _, c, d] = std::process::id().to_be_bytes();
    Ipv4Addr::new(127, 32 + (a ^ b ^ c) % 16, d, test)
}

fn door(address: Ipv4Addr, port: u16, protocol: Protocol, backends: &[SocketAddr]) -> Door {
    let backends = backends.to_vec();
    Door {
        family: Family::V4,
        name: "shop/web:http".to_owned(),
        protocol,
        addresses: vec![address.into()],
        port,
        node_port: None,
        sticky: None,
        own: false,
        node_backends: backends.clone(),
        backends,
    }
}

/// A backend that says its name to whoever connects.
async fn backend(name: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _gone = stream.write_all(name.as_bytes()).await;
        }
    });
    address
}

async fn said(to: SocketAddr) -> std::io::Result<String> {
    let mut text = String::new();
    let mut stream = timeout(PATIENCE, TcpStream::connect(to)).await??;
    timeout(PATIENCE, stream.read_to_string(&mut text)).await??;
    Ok(text)
}

#[tokio::test]
async fn connections_reach_every_backend_and_no_other() {
    let (one, two) = (backend("one").await, backend("two").await);
    let place = SocketAddr::from((own(1), 20_080));
    let mut forwarder = Forwarder::new();
    forwarder.keep(&[door(own(1), 20_080, Protocol::Tcp, &[one, two])], Part::Everything).await;
    let mut heard = [said(place).await.expect("an answer"), said(place).await.expect("an answer")];
    heard.sort();
    assert_eq!(heard, ["one", "two"]);

    forwarder.keep(&[door(own(1), 20_080, Protocol::Tcp, &[two])], Part::Everything).await;
    for _ in 0..4 {
        assert_eq!(said(place).await.expect("an answer"), "two");
    }
    forwarder.keep(&[door(own(1), 20_080, Protocol::Tcp, &[])], Part::Everything).await;
    assert!(said(place).await.is_err(), "nobody is behind it");
    forwarder.keep(&[], Part::Everything).await;
    let refused = async {
        while TcpStream::connect(place).await.is_ok() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, refused).await.expect("the door is closed");
}

#[tokio::test]
async fn a_backend_that_refuses_is_passed_over() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let dead = listener.local_addr().expect("bound");
    drop(listener);
    let alive = backend("alive").await;
    let mut forwarder = Forwarder::new();
    forwarder.keep(&[door(own(2), 20_081, Protocol::Tcp, &[dead, alive])], Part::Everything).await;
    for _ in 0..4 {
        assert_eq!(said(SocketAddr::from((own(2), 20_081))).await.expect("an answer"), "alive");
    }
}

#[tokio::test]
async fn a_port_that_others_hold_is_opened_once_it_is_free() {
    let place = SocketAddr::from((own(3), 20_082));
    let holder = TcpListener::bind(place).await.expect("our own address");
    let doors = [door(own(3), 20_082, Protocol::Tcp, &[backend("late").await])];
    let mut forwarder = Forwarder::new();
    forwarder.keep(&doors, Part::Everything).await;
    assert!(forwarder.is_waiting());
    drop(holder);
    forwarder.keep(&doors, Part::Everything).await;
    assert!(!forwarder.is_waiting());
    assert_eq!(said(place).await.expect("an answer"), "late");
}

#[tokio::test]
async fn datagrams_come_back_and_leave_a_backend_that_is_gone() {
    async fn echo(name: &'static str) -> SocketAddr {
        let socket = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
        let address = socket.local_addr().expect("bound");
        tokio::spawn(async move {
            let mut buffer = [0; 64];
            while let Ok((_, from)) = socket.recv_from(&mut buffer).await {
                let _gone = socket.send_to(name.as_bytes(), from).await;
            }
        });
        address
    }
    let (one, two) = (echo("one").await, echo("two").await);
    let place = SocketAddr::from((own(4), 20_083));
    let mut forwarder = Forwarder::new();
    forwarder.keep(&[door(own(4), 20_083, Protocol::Udp, &[one])], Part::Everything).await;
    let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
    client.connect(place).await.expect("an address");
    let ask = async || {
        client.send(b"?").await.expect("sent");
        let mut buffer = [0; 64];
        let length = timeout(PATIENCE, client.recv(&mut buffer)).await.expect("in time").expect("an answer");
        String::from_utf8_lossy(&buffer[..length]).into_owned()
    };
    assert_eq!([ask().await, ask().await], ["one", "one"]);
    forwarder.keep(&[door(own(4), 20_083, Protocol::Udp, &[two])], Part::Everything).await;
    assert_eq!(ask().await, "two");
}

#[test]
fn the_kernel_leaves_us_node_ports_that_it_cannot_lead_on() {
    let door = |backend: &str| {
        let mut door = door([127, 128, 0, 9].into(), 80, Protocol::Tcp, &[backend.parse().expect("an address")]);
        door.node_port = Some(30_080);
        door
    };
    let count = |door: Door, part| places(&[door], part, None).len();
    assert_eq!(count(door("127.64.0.2:8080"), Part::Everything), 2);
    assert_eq!(count(door("127.64.0.2:8080"), Part::LeftByTheKernel), 1);
    assert_eq!(count(door("10.64.0.2:8080"), Part::LeftByTheKernel), 0);
    let on_v6 = Door { family: Family::V6, addresses: Vec::new(), ..door("[fd5c::2]:8080") };
    let doors = [on_v6];
    let places = places(&doors, Part::LeftByTheKernel, None);
    let places: Vec<String> = places.into_keys().map(|place| place.address.to_string()).collect();
    assert_eq!(places, ["[::1]:30080"]);
}

#[test]
fn pods_elsewhere_reach_services_at_doors_of_their_own() {
    // On the machine the backend listens there itself; from inside it is out of reach.
    let own = door([127, 128, 0, 9].into(), 53, Protocol::Udp, &["127.128.0.9:53".parse().expect("an address")]);
    let doors = [own];
    let inside: Vec<Option<usize>> =
        places(&doors, Part::Everything, Some(7)).into_keys().map(|place| place.inside).collect();
    assert_eq!(inside, [Some(7)]);
}
