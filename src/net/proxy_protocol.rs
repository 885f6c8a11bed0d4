//! The PROXY protocol, versions 1 and 2: a proxy that passes on bytes tells in a header before them which address its
//! client has (haproxy.org, proxy-protocol.txt).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Reads the header, and nothing behind it. `None` where the proxy speaks for itself, as in its health checks, or for a
/// client without an IP address.
///
/// # Errors
/// The connection broke or ended, or it does not begin with a header: nobody may guess then what it is (section 5).
pub async fn client_address(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    // The shortest header of version 1 has 15 bytes.
    let mut start = [0; SIGNATURE.len()];
    stream.read_exact(&mut start).await?;
    if start == SIGNATURE {
        return version_2(stream).await;
    }
    if !start.starts_with(b"PROXY ") {
        return Err(malformed());
    }
    let mut line = start.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() == LONGEST_LINE_BYTES {
            return Err(malformed());
        }
        line.push(stream.read_u8().await?);
    }
    version_1(&line[..line.len() - 2])
}

/// `PROXY TCP4 client proxy client_port proxy_port`, and the same with `TCP6`.
fn version_1(line: &[u8]) -> io::Result<Option<SocketAddr>> {
    let line = std::str::from_utf8(line).map_err(|_| malformed())?;
    let words: Vec<&str> = line.split(' ').skip(1).collect();
    if words.first() == Some(&"UNKNOWN") {
        return Ok(None);
    }
    let [kind, client, proxy, client_port, proxy_port] = words[..] else { return Err(malformed()) };
    let address = |text: &str| text.parse::<IpAddr>().map_err(|_| malformed());
    let port = |text: &str| text.parse::<u16>().map_err(|_| malformed());
    let (client, proxy) = (address(client)?, address(proxy)?);
    port(proxy_port)?;
    let is_ipv4 = match kind {
        "TCP4" => true,
        "TCP6" => false,
        _ => return Err(malformed()),
    };
    if client.is_ipv4() != is_ipv4 || proxy.is_ipv4() != is_ipv4 {
        return Err(malformed());
    }
    Ok(Some(SocketAddr::new(client, port(client_port)?)))
}

/// Version and command, family, length; then addresses, ports, and extensions, which are skipped.
async fn version_2(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<SocketAddr>> {
    let command = stream.read_u8().await?;
    let family = stream.read_u8().await?;
    let length = usize::from(stream.read_u16().await?);
    if length > LONGEST_BODY_BYTES {
        return Err(malformed());
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    match command {
        LOCAL => return Ok(None),
        PROXY => {}
        _ => return Err(malformed()),
    }
    Ok(match family {
        TCP_OVER_IPV4 => {
            let (client, port) = client_of::<4>(&body, 8)?;
            Some(SocketAddr::new(Ipv4Addr::from(client).into(), port))
        }
        TCP_OVER_IPV6 => {
            let (client, port) = client_of::<16>(&body, 32)?;
            Some(SocketAddr::new(Ipv6Addr::from(client).into(), port))
        }
        _ => None,
    })
}

/// The client's address, which comes first, and its port, which comes behind both addresses.
fn client_of<const N: usize>(body: &[u8], port_at: usize) -> io::Result<([u8; N], u16)> {
    let address = body.first_chunk::<N>().ok_or_else(malformed)?;
    // The proxy's port follows.
    let ports = body.get(port_at..).and_then(<[u8]>::first_chunk::<4>).ok_or_else(malformed)?;
    Ok((*address, u16::from_be_bytes([ports[0], ports[1]])))
}

fn malformed() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no header of the PROXY protocol")
}

const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const TCP_OVER_IPV4: u8 = 0x11;
const TCP_OVER_IPV6: u8 = 0x21;
/// Section 2.1: 107 characters with the line's end.
const LONGEST_LINE_BYTES: usize = 107;
/// Far more than the extensions of known proxies take; a certificate's name is the longest.
const LONGEST_BODY_BYTES: usize = 4096;

#[cfg(test)]
mod tests {
    use super::*;

    /// The address that the header tells, and the bytes behind the header.
    async fn read(mut bytes: &[u8]) -> (Result<Option<String>, io::ErrorKind>, &[u8]) {
        let told = client_address(&mut bytes).await;
        (told.map(|told| told.map(|address| address.to_string())).map_err(|fault| fault.kind()), bytes)
    }

    fn version_2(command: u8, family: u8, body: &[u8]) -> Vec<u8> {
        let length = u16::try_from(body.len()).expect("short").to_be_bytes();
        [&SIGNATURE[..], &[command, family], &length, body, b"GET /"].concat()
    }

    #[tokio::test]
    async fn a_header_names_the_client_and_leaves_what_follows() {
        let ipv4 = [&[203, 0, 113, 9, 10, 0, 0, 1][..], &5000_u16.to_be_bytes(), &[1, 187]].concat();
        let with_extension = [&*ipv4, &[3, 0, 4, 1, 2, 3, 4]].concat();
        let mut ipv6 = vec![0; 36];
        ipv6[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
        ipv6[15] = 7;
        ipv6[32..34].copy_from_slice(&5001_u16.to_be_bytes());
        let line = |line: &str| [line.as_bytes(), b"\r\nGET /"].concat();
        for (bytes, told) in [
            (line("PROXY TCP4 203.0.113.9 10.0.0.1 5000 443"), Some("203.0.113.9:5000")),
            (line("PROXY TCP6 2001:db8::7 2001:db8::1 5001 443"), Some("[2001:db8::7]:5001")),
            (line("PROXY UNKNOWN"), None),
            (line("PROXY UNKNOWN ffff::1 ffff::2 1 2"), None),
            (version_2(PROXY, TCP_OVER_IPV4, &ipv4), Some("203.0.113.9:5000")),
            (version_2(PROXY, TCP_OVER_IPV4, &with_extension), Some("203.0.113.9:5000")),
            (version_2(PROXY, TCP_OVER_IPV6, &ipv6), Some("[2001:db8::7]:5001")),
            (version_2(PROXY, 0x31, &[0; 216]), None),
            (version_2(LOCAL, 0, &[]), None),
            (version_2(LOCAL, TCP_OVER_IPV4, &ipv4), None),
        ] {
            assert_eq!(read(&bytes).await, (Ok(told.map(str::to_owned)), &b"GET /"[..]));
        }
    }

    #[tokio::test]
    async fn anything_else_is_refused() {
        let long = format!("PROXY UNKNOWN {}\r\n", "x".repeat(LONGEST_LINE_BYTES));
        for bytes in [
            b"GET /v1/tasks HTTP/1.1\r\n\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 5000\r\n".to_vec(),
            b"PROXY TCP4 203.0.113.9 10.0.0.1 5000 65536\r\n".to_vec(),
            b"PROXY TCP4 2001:db8::7 10.0.0.1 5000 443\r\n".to_vec(),
            b"PROXY TCP6 203.0.113.9 10.0.0.1 5000 443\r\n".to_vec(),
            b"PROXY UDP4 203.0.113.9 10.0.0.1 5000 443\r\n".to_vec(),
            long.into_bytes(),
            version_2(0x22, TCP_OVER_IPV4, &[0; 12]),
            version_2(0x11, TCP_OVER_IPV4, &[0; 12]),
            version_2(PROXY, TCP_OVER_IPV4, &[0; 11]),
            version_2(PROXY, TCP_OVER_IPV6, &[0; 35]),
            version_2(LOCAL, 0, &[0; LONGEST_BODY_BYTES + 1]),
        ] {
            assert_eq!(read(&bytes).await.0, Err(io::ErrorKind::InvalidData), "{bytes:?}");
        }
        assert_eq!(read(b"PROXY TCP4 203.0.113.9").await.0, Err(io::ErrorKind::UnexpectedEof));
    }
}
