//! The first packet of a client, and the refusal that answers it.

use std::io::{self, Read, Write};

const PROTOCOL_3: u32 = 3;
const CANCEL: u32 = 80_877_102;
const TLS: u32 = 80_877_103;
const GSS: u32 = 80_877_104;

/// As PostgreSQL itself limits it.
const MAX_PACKET: usize = 10_000;

/// Reads what a client opens with, and declines encryption until it comes to the point.
///
/// `None` is a client that wants no connection: one that only came to cancel a statement, which cannot be done here.
pub(super) fn read(client: &mut (impl Read + Write)) -> io::Result<Option<Vec<u8>>> {
    loop {
        let mut packet = vec![0; 8];
        client.read_exact(&mut packet)?;
        let (length, code) = (be_u32(&packet[..4]) as usize, be_u32(&packet[4..]));
        match code {
            TLS | GSS if length == 8 => client.write_all(b"N")?,
            CANCEL => return Ok(None),
            _ if code >> 16 == PROTOCOL_3 && (8..=MAX_PACKET).contains(&length) => {
                packet.resize(length, 0);
                client.read_exact(&mut packet[8..])?;
                return Ok(Some(packet));
            }
            _ => return Err(io::Error::new(io::ErrorKind::InvalidData, "the client does not speak the PostgreSQL protocol")),
        }
    }
}

/// Tells a client that there is no place for it.
pub(super) fn refuse(client: &mut impl Write, sqlstate: &str, message: &str) -> io::Result<()> {
    let mut fields = Vec::new();
    for (field, value) in [(b'S', "FATAL"), (b'V', "FATAL"), (b'C', sqlstate), (b'M', message)] {
        fields.push(field);
        fields.extend_from_slice(value.as_bytes());
        fields.push(0);
    }
    fields.push(0);
    let length = u32::try_from(fields.len() + 4).map_err(io::Error::other)?;
    let mut packet = vec![b'E'];
    packet.extend_from_slice(&length.to_be_bytes());
    packet.extend_from_slice(&fields);
    client.write_all(&packet)
}

fn be_u32(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |value, &byte| value << 8 | u32::from(byte))
}
