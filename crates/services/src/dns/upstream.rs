//! Questions that the machine's own resolvers answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::timeout;

use super::answer::Transport;

/// As many as the C library asks.
const MAX_RESOLVERS: usize = 3;
/// Clients ask again after five seconds: by then we have tried two.
const PATIENCE: Duration = Duration::from_secs(2);
const DNS_PORT: u16 = 53;
const MAX_UDP_BYTES: usize = 4_096;
/// Id, flags and counts.
const HEADER_BYTES: usize = 12;

#[derive(Debug, Clone)]
pub(super) struct Upstream {
    /// Read for each question: it changes when a laptop moves.
    pub(super) resolv_conf: PathBuf,
    /// Ourselves, whom we do not ask.
    pub(super) own: SocketAddr,
}

impl Upstream {
    /// The first answer that a resolver gives.
    pub(super) async fn ask(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let text = std::fs::read_to_string(&self.resolv_conf).unwrap_or_default();
        for resolver in resolvers(&text).into_iter().filter(|resolver| *resolver != self.own).take(MAX_RESOLVERS) {
            let asked = async {
                match transport {
                    Transport::Udp => by_udp(resolver, question).await,
                    Transport::Tcp => by_tcp(resolver, question).await,
                }
            };
            if let Ok(Ok(answer)) = timeout(PATIENCE, asked).await {
                return Some(answer);
            }
        }
        None
    }
}

async fn by_udp(resolver: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    // A socket of its own for each question: its port is one more thing that a liar must guess.
    let any = if resolver.is_ipv4() { IpAddr::V4(Ipv4Addr::UNSPECIFIED) } else { IpAddr::V6(Ipv6Addr::UNSPECIFIED) };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(resolver).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; MAX_UDP_BYTES];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if length >= HEADER_BYTES && buffer[..2] == question[..2] && buffer[2] & 0x80 != 0 {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn by_tcp(resolver: SocketAddr, question: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    let length = u16::try_from(question.len()).map_err(std::io::Error::other)?;
    stream.write_all(&[&length.to_be_bytes()[..], question].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

fn resolvers(resolv_conf: &str) -> Vec<SocketAddr> {
    let address = |line: &str| {
        let mut words = line.split_whitespace();
        let address = (words.next()? == "nameserver").then(|| words.next())??;
        Some(SocketAddr::new(address.parse().ok()?, DNS_PORT))
    };
    resolv_conf.lines().filter_map(address).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolvers_are_those_of_the_machine() {
        let text = "# nameserver 192.0.2.9\nsearch home\nnameserver 192.0.2.1\nnameserver  2001:db8::1\nnameserver\n";
        let expected: Vec<SocketAddr> =
            ["192.0.2.1:53", "[2001:db8::1]:53"].map(|address| address.parse().expect("an address")).into();
        assert_eq!(resolvers(text), expected);
    }
}
