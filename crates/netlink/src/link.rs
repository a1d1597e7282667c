//! Bridges, cables between network namespaces, addresses and routes.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd, OwnedFd};

use crate::family::{Family, octets};
use crate::message::{CREATE, EXCLUSIVE, Message, REPLACE};
use crate::socket::Socket;

const NEW_LINK: u16 = 16;
const DELETE_LINK: u16 = 17;
const NEW_ADDRESS: u16 = 20;
const DELETE_ADDRESS: u16 = 21;
const NEW_ROUTE: u16 = 24;

const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const IFLA_INFO_SLAVE_KIND: u16 = 4;
const IFLA_INFO_SLAVE_DATA: u16 = 5;
const IFLA_BRPORT_MODE: u16 = 4;
const VETH_INFO_PEER: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;

const UP: u32 = 1;
const TABLE_MAIN: u8 = 254;
const PROTOCOL_STATIC: u8 = 4;
const UNICAST: u8 = 1;
/// Nobody else can have an address of ours, so nobody is asked for a second whether he has.
const NO_DUPLICATES: u8 = 2;

/// A pair of ends: one at a bridge of ours, the other in a pod's network.
#[derive(Debug)]
pub struct Cable<'a> {
    pub bridge: &'a str,
    pub port: &'a str,
    pub far_name: &'a str,
    pub far_namespace: BorrowedFd<'a>,
}

/// The links of the network namespace in which this was opened.
#[derive(Debug)]
pub struct Links(Socket);

impl Links {
    pub fn open() -> io::Result<Self> {
        Ok(Self(Socket::route()?))
    }

    /// Those of another network namespace, in which somebody has made this socket.
    pub fn over(socket: OwnedFd) -> io::Result<Self> {
        Ok(Self(Socket::over(socket)?))
    }

    /// Makes a bridge; one of that name that is there already is fine.
    pub fn add_bridge(&mut self, name: &str, hardware_address: [u8; 6]) -> io::Result<()> {
        let mut message = Message::new(NEW_LINK, CREATE | EXCLUSIVE, &link(0, UP));
        message.put_text(IFLA_IFNAME, name).put(IFLA_ADDRESS, &hardware_address);
        message.nest(IFLA_LINKINFO, |info| info.put(IFLA_INFO_KIND, b"bridge"));
        match self.0.ask(message) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => self.raise(name),
            other => other,
        }
    }

    /// Makes a cable, with the near end up and at its bridge.
    pub fn add_cable(&mut self, cable: &Cable<'_>) -> io::Result<()> {
        let bridge = self.find(cable.bridge)?;
        let mut message = Message::new(NEW_LINK, CREATE | EXCLUSIVE, &link(0, UP));
        message.put_text(IFLA_IFNAME, cable.port).put(IFLA_MASTER, &bridge.to_ne_bytes());
        message.nest(IFLA_LINKINFO, |info| {
            info.put(IFLA_INFO_KIND, b"veth").nest(IFLA_INFO_DATA, |data| {
                data.nest(VETH_INFO_PEER, |peer| {
                    // It can be raised only when both ends are there.
                    peer.put_fixed(&link(0, 0)).put_text(IFLA_IFNAME, cable.far_name);
                    peer.put(IFLA_NET_NS_FD, &cable.far_namespace.as_raw_fd().to_ne_bytes())
                })
            })
        });
        self.0.ask(message)
    }

    /// Lets a bridge send back through a port what came in by it. Not by the file in `/sys`, on which the kernel lets a writer
    /// spin for as long as anybody else changes a link.
    pub fn allow_hairpin(&mut self, port: &str) -> io::Result<()> {
        let index = self.find(port)?;
        let mut body = [0; 16];
        body[4..8].copy_from_slice(&index.to_ne_bytes());
        let mut message = Message::new(NEW_LINK, 0, &body);
        message.nest(IFLA_LINKINFO, |info| {
            info.put(IFLA_INFO_SLAVE_KIND, b"bridge")
                .nest(IFLA_INFO_SLAVE_DATA, |data| data.put(IFLA_BRPORT_MODE, &[1]))
        });
        self.0.ask(message)
    }

    /// The number of a link, by name.
    pub fn find(&self, name: &str) -> io::Result<u32> {
        self.0.index_of(name)
    }

    fn raise(&mut self, name: &str) -> io::Result<()> {
        let index = self.find(name)?;
        self.raise_index(index)
    }

    /// A new namespace has its loopback link at once, and nothing before it.
    pub fn raise_index(&mut self, index: u32) -> io::Result<()> {
        self.0.ask(Message::new(NEW_LINK, 0, &link(index, UP)))
    }

    pub fn remove(&mut self, name: &str) -> io::Result<()> {
        let index = self.find(name)?;
        self.0.ask(Message::new(DELETE_LINK, 0, &link(index, 0)))
    }

    pub fn add_address(&mut self, index: u32, address: impl Into<IpAddr>, prefix_length: u8) -> io::Result<()> {
        self.0.ask(at(NEW_ADDRESS, CREATE | REPLACE, index, address.into(), prefix_length))
    }

    pub fn remove_address(&mut self, index: u32, address: impl Into<IpAddr>, prefix_length: u8) -> io::Result<()> {
        self.0.ask(at(DELETE_ADDRESS, 0, index, address.into(), prefix_length))
    }

    pub fn add_default_route(&mut self, index: u32, gateway: impl Into<IpAddr>) -> io::Result<()> {
        let gateway = gateway.into();
        let mut message = route(Family::of(gateway), 0);
        message.put(RTA_GATEWAY, &octets(gateway)).put(RTA_OIF, &index.to_ne_bytes());
        self.0.ask(message)
    }

    /// Everything in a network is behind this link. Ends with the link.
    pub fn add_route(&mut self, index: u32, network: impl Into<IpAddr>, prefix_length: u8) -> io::Result<()> {
        let network = network.into();
        let mut message = route(Family::of(network), prefix_length);
        message.put(RTA_DST, &octets(network)).put(RTA_OIF, &index.to_ne_bytes());
        self.0.ask(message)
    }
}

fn route(family: Family, prefix_length: u8) -> Message {
    let body = [family.number(), prefix_length, 0, 0, TABLE_MAIN, PROTOCOL_STATIC, 0, UNICAST, 0, 0, 0, 0];
    Message::new(NEW_ROUTE, CREATE | REPLACE, &body)
}

fn at(kind: u16, flags: u16, index: u32, address: IpAddr, prefix_length: u8) -> Message {
    let family = Family::of(address);
    let of_address = if family == Family::V6 { NO_DUPLICATES } else { 0 };
    let mut body = vec![family.number(), prefix_length, of_address, 0];
    body.extend_from_slice(&index.to_ne_bytes());
    let mut message = Message::new(kind, flags, &body);
    message.put(IFA_LOCAL, &octets(address)).put(IFA_ADDRESS, &octets(address));
    message
}

fn link(index: u32, flags: u32) -> [u8; 16] {
    let mut body = [0; 16];
    body[4..8].copy_from_slice(&index.to_ne_bytes());
    body[8..12].copy_from_slice(&flags.to_ne_bytes());
    body[12..16].copy_from_slice(&UP.to_ne_bytes());
    body
}
