//! The header of the PROXY protocol, before anything else of a connection: who the client of a TCP proxy is.
//!
//! Read only from addresses that have to send it, and never guessed. Exactly the header is read, so what follows it, a TLS
//! handshake or a head, is as if it were not there. Bounded by the longest line of version 1 and by `V2_BYTES_MAX`.

use ppp::{v1, v2};
use std::io;
use std::net::IpAddr;
use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest line of version 1, with its end, bytes.
const V1_BYTES_MAX: usize = 107;
/// The longest header of version 2: addresses, and extensions such as the client's certificate name.
const V2_BYTES_MAX: usize = 4096;
/// The bytes of version 2 up to and with its length.
const V2_FIXED: usize = 16;
/// The bytes after which the version is known: no shorter header exists.
const FIRST: usize = v2::PROTOCOL_PREFIX.len();

/// Reads one. `None`: the connection is the proxy's own, as its health checks are, or of no known family.
///
/// # Errors
/// When there is none, or it is malformed.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<IpAddr>> {
    let mut bytes = vec![0; FIRST];
    stream.read_exact(&mut bytes).await?;
    if bytes == v2::PROTOCOL_PREFIX { version_2(stream, bytes).await } else { version_1(stream, bytes).await }
}

async fn version_1(stream: &mut (impl AsyncRead + Unpin), mut line: Vec<u8>) -> io::Result<Option<IpAddr>> {
    if !line.starts_with(v1::PROTOCOL_PREFIX.as_bytes()) {
        return Err(malformed("it does not begin with one"));
    }
    while !line.ends_with(v1::PROTOCOL_SUFFIX.as_bytes()) {
        if line.len() >= V1_BYTES_MAX {
            return Err(malformed("its line is too long"));
        }
        line.push(stream.read_u8().await?);
    }
    let header = v1::Header::try_from(line.as_slice()).map_err(malformed)?;
    Ok(match header.addresses {
        v1::Addresses::Tcp4(told) => Some(told.source_address.into()),
        v1::Addresses::Tcp6(told) => Some(told.source_address.into()),
        v1::Addresses::Unknown => None,
    })
}

async fn version_2(stream: &mut (impl AsyncRead + Unpin), mut bytes: Vec<u8>) -> io::Result<Option<IpAddr>> {
    bytes.resize(V2_FIXED, 0);
    let rest = bytes.get_mut(FIRST..).unwrap_or_default();
    stream.read_exact(rest).await?;
    let length = match rest {
        [.., high, low] => usize::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    };
    if V2_FIXED + length > V2_BYTES_MAX {
        return Err(malformed("it is too long"));
    }
    bytes.resize(V2_FIXED + length, 0);
    stream.read_exact(bytes.get_mut(V2_FIXED..).unwrap_or_default()).await?;
    let header = v2::Header::try_from(bytes.as_slice()).map_err(malformed)?;
    if header.command == v2::Command::Local {
        return Ok(None);
    }
    Ok(match header.addresses {
        v2::Addresses::IPv4(told) => Some(told.source_address.into()),
        v2::Addresses::IPv6(told) => Some(told.source_address.into()),
        v2::Addresses::Unspecified | v2::Addresses::Unix(_) => None,
    })
}

fn malformed(what: impl std::fmt::Display) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("malformed PROXY header: {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AFTER: &[u8] = b"GET / HTTP/1.1\r\n";

    /// What is read of these bytes, and what is left of them.
    fn read_of(bytes: &[u8]) -> (io::Result<Option<IpAddr>>, Vec<u8>) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut stream = bytes;
        let read = runtime.block_on(read(&mut stream));
        (read, stream.to_vec())
    }

    fn v2_of(command: u8, family: u8, addresses: &[u8], extensions: usize) -> Vec<u8> {
        let length = (addresses.len() + extensions) as u16;
        let mut bytes = [v2::PROTOCOL_PREFIX, &[0x20 | command, family]].concat();
        bytes.extend(length.to_be_bytes());
        bytes.extend(addresses);
        // One extension that fills what was asked for.
        if extensions >= 3 {
            bytes.push(4);
            bytes.extend((extensions as u16 - 3).to_be_bytes());
            bytes.extend(vec![0; extensions - 3]);
        }
        bytes
    }

    #[test]
    fn both_versions_tell_the_client_and_leave_what_follows() {
        let four = [10, 1, 2, 3, 10, 0, 0, 1, 0x30, 0x39, 1, 0xbb];
        let mut six = [0; 36];
        six[..16].copy_from_slice(&"2001:db8::7".parse::<std::net::Ipv6Addr>().unwrap().octets());
        let wanted = [
            (b"PROXY TCP4 10.1.2.3 10.0.0.1 12345 443\r\n".to_vec(), Some("10.1.2.3")),
            (b"PROXY TCP6 2001:db8::7 2001:db8::1 1 2\r\n".to_vec(), Some("2001:db8::7")),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (v2_of(1, 0x11, &four, 0), Some("10.1.2.3")),
            (v2_of(1, 0x11, &four, 300), Some("10.1.2.3")),
            (v2_of(1, 0x21, &six, 0), Some("2001:db8::7")),
            (v2_of(0, 0x00, &[], 0), None),
            (v2_of(0, 0x11, &four, 0), None),
        ];
        for (header, address) in wanted {
            let (read, left) = read_of(&[&header, AFTER].concat());
            assert_eq!(read.unwrap().map(|told| told.to_string()).as_deref(), address, "{header:?}");
            assert_eq!(left, AFTER, "{header:?}");
        }
    }

    #[test]
    fn anything_else_is_refused_within_its_bound() {
        let long = [b"PROXY UNKNOWN ".to_vec(), vec![b'a'; 200]].concat();
        let refused = [
            AFTER.to_vec(),
            b"PROXY TCP4 10.1.2.3\r\n".to_vec(),
            b"PROXY TCP4 300.1.2.3 10.0.0.1 1 2\r\n".to_vec(),
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00\x00".to_vec(),
            v2_of(1, 0x11, &[10, 1], 0),
            v2_of(1, 0x11, &[0; 12], 4096),
            long.clone(),
            b"PROXY".to_vec(),
        ];
        for bytes in refused {
            assert!(read_of(&bytes).0.is_err(), "{bytes:?}");
        }
        assert_eq!(read_of(&long).1.len(), long.len() - V1_BYTES_MAX);
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..300), two in any::<bool>()) {
            let start: &[u8] = if two { v2::PROTOCOL_PREFIX } else { b"PROXY TCP" };
            let _ = read_of(&[start, &bytes].concat());
        }
    }
}
