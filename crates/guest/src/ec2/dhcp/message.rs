//! DHCP's messages: a fixed part, as in RFC 2131, and options, as in RFC 2132.

use std::net::Ipv4Addr;

/// Offsets in the fixed part.
const TRANSACTION: usize = 4;
const YOUR_ADDRESS: usize = 16;
const HARDWARE_ADDRESS: usize = 28;
const COOKIE: usize = 236;
const OPTIONS: usize = 240;

const FROM_CLIENT: u8 = 1;
const FROM_SERVER: u8 = 2;
const ETHERNET: u8 = 1;
const MAC_BYTES: u8 = 6;
const MAGIC: [u8; 4] = [99, 130, 83, 99];

/// The options that are sent or read.
const PAD: u8 = 0;
const SUBNET_MASK: u8 = 1;
const ROUTER: u8 = 3;
const RESOLVERS: u8 = 6;
const INTERFACE_MTU: u8 = 26;
const REQUESTED_ADDRESS: u8 = 50;
const KIND: u8 = 53;
const SERVER: u8 = 54;
const PARAMETERS: u8 = 55;
const END: u8 = 255;

/// Values of the option [`KIND`].
const DISCOVER: u8 = 1;
const OFFER: u8 = 2;
const REQUEST: u8 = 3;
const ACKNOWLEDGE: u8 = 5;
const REFUSE: u8 = 6;

/// As many as a resolver asks.
const RESOLVERS_LIMIT: usize = 3;
/// IPv4 wants every network to carry packets of this size.
const LEAST_MTU: u16 = 576;

const IPV4_HEADER_LEAST: usize = 20;
const UDP: u8 = 17;
const UDP_HEADER: usize = 8;
/// The bits of a header's fragment field that a whole packet has clear: "more follow", and the offset.
const FRAGMENT: u16 = 0x3fff;

/// What a server gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The server that gave it.
    pub server: Ipv4Addr,
    /// The address.
    pub address: Ipv4Addr,
    /// The length of its network's prefix.
    pub prefix: u8,
    /// The way out of that network.
    pub router: Option<Ipv4Addr>,
    /// Servers of names; at most three.
    pub resolvers: Vec<Ipv4Addr>,
    /// The MTU of the network, where it says.
    pub mtu: Option<u16>,
}

/// What a server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It would give this.
    Offer(Lease),
    /// It gives this.
    Acknowledged(Lease),
    /// It does not give what was requested.
    Refused,
}

/// A message that says nothing to this client; the part that is wrong or another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a message whose {0} is not right")]
pub struct Malformed(pub &'static str);

/// One client's exchange of messages.
#[derive(Clone, Copy, Debug)]
pub struct Transaction {
    number: u32,
    mac: [u8; 6],
}

impl Transaction {
    /// A transaction with a random number.
    pub fn new(number: u32, mac: [u8; 6]) -> Self {
        Self { number, mac }
    }

    /// Asks all servers for an offer.
    pub fn discover(&self) -> Vec<u8> {
        self.message(DISCOVER, &[])
    }

    /// Takes one server's offer, and tells the others.
    pub fn request(&self, offer: &Lease) -> Vec<u8> {
        let of = |code, address: Ipv4Addr| (code, address.octets());
        self.message(
            REQUEST,
            &[of(REQUESTED_ADDRESS, offer.address), of(SERVER, offer.server)],
        )
    }

    fn message(&self, kind: u8, addresses: &[(u8, [u8; 4])]) -> Vec<u8> {
        let mut message = vec![0; OPTIONS];
        message[..3].copy_from_slice(&[FROM_CLIENT, ETHERNET, MAC_BYTES]);
        message[TRANSACTION..TRANSACTION + 4].copy_from_slice(&self.number.to_be_bytes());
        message[HARDWARE_ADDRESS..HARDWARE_ADDRESS + 6].copy_from_slice(&self.mac);
        message[COOKIE..OPTIONS].copy_from_slice(&MAGIC);
        message.extend([KIND, 1, kind]);
        for (code, address) in addresses {
            message.extend([*code, 4]);
            message.extend(address);
        }
        message.extend([PARAMETERS, 4, SUBNET_MASK, ROUTER, RESOLVERS, INTERFACE_MTU, END]);
        message
    }

    /// Reads a message from a server.
    ///
    /// # Errors
    /// [`Malformed`]; also where it is for another client.
    pub fn read(&self, message: &[u8]) -> Result<Answer, Malformed> {
        let (fixed, options) = message.split_at_checked(OPTIONS).ok_or(Malformed("length"))?;
        if fixed[..3] != [FROM_SERVER, ETHERNET, MAC_BYTES] {
            return Err(Malformed("operation or hardware type"));
        }
        if fixed[TRANSACTION..TRANSACTION + 4] != self.number.to_be_bytes() {
            return Err(Malformed("transaction"));
        }
        if fixed[HARDWARE_ADDRESS..HARDWARE_ADDRESS + 6] != self.mac {
            return Err(Malformed("hardware address"));
        }
        if fixed[COOKIE..] != MAGIC {
            return Err(Malformed("magic cookie"));
        }
        match option(options, KIND)? {
            Some([OFFER]) => Ok(Answer::Offer(lease(fixed, options)?)),
            Some([ACKNOWLEDGE]) => Ok(Answer::Acknowledged(lease(fixed, options)?)),
            Some([REFUSE]) => Ok(Answer::Refused),
            _ => Err(Malformed("kind")),
        }
    }
}

fn lease(fixed: &[u8], options: &[u8]) -> Result<Lease, Malformed> {
    let address = address(&fixed[YOUR_ADDRESS..]).ok_or(Malformed("address"))?;
    if address.is_unspecified() || address.is_broadcast() || address.is_multicast() || address.is_loopback() {
        return Err(Malformed("address"));
    }
    Ok(Lease {
        server: single(options, SERVER, "server")?.ok_or(Malformed("server"))?,
        address,
        prefix: prefix(single(options, SUBNET_MASK, "subnet mask")?)?,
        router: several(options, ROUTER, "router")?.first().copied(),
        resolvers: several(options, RESOLVERS, "resolvers")?,
        mtu: mtu(options)?,
    })
}

/// A mask as the number of its bits, which are its first ones; without one the address is alone.
fn prefix(mask: Option<Ipv4Addr>) -> Result<u8, Malformed> {
    let Some(mask) = mask.map(u32::from) else {
        return Ok(32);
    };
    let ones = mask.leading_ones();
    if ones != mask.count_ones() || ones == 0 {
        return Err(Malformed("subnet mask"));
    }
    Ok(u8::try_from(ones).expect("a mask has 32 bits"))
}

fn mtu(options: &[u8]) -> Result<Option<u16>, Malformed> {
    match option(options, INTERFACE_MTU)? {
        None => Ok(None),
        Some(&[high, low]) => match u16::from_be_bytes([high, low]) {
            mtu if mtu >= LEAST_MTU => Ok(Some(mtu)),
            _ => Err(Malformed("MTU")),
        },
        Some(_) => Err(Malformed("MTU")),
    }
}

fn single(options: &[u8], code: u8, name: &'static str) -> Result<Option<Ipv4Addr>, Malformed> {
    match option(options, code)? {
        None => Ok(None),
        Some(value) if value.len() == 4 => Ok(address(value)),
        Some(_) => Err(Malformed(name)),
    }
}

/// The first addresses of an option.
fn several(options: &[u8], code: u8, name: &'static str) -> Result<Vec<Ipv4Addr>, Malformed> {
    let value = option(options, code)?.unwrap_or_default();
    if value.len() % 4 != 0 {
        return Err(Malformed(name));
    }
    Ok(value
        .chunks(4)
        .filter_map(address)
        .take(RESOLVERS_LIMIT)
        .collect())
}

fn address(bytes: &[u8]) -> Option<Ipv4Addr> {
    bytes.first_chunk::<4>().map(|octets| Ipv4Addr::from(*octets))
}

/// The value of the first option with this code.
fn option(mut options: &[u8], code: u8) -> Result<Option<&[u8]>, Malformed> {
    loop {
        match options {
            [] | [END, ..] => return Ok(None),
            [PAD, rest @ ..] => options = rest,
            [found, length, rest @ ..] => {
                let (value, rest) = rest
                    .split_at_checked(usize::from(*length))
                    .ok_or(Malformed("option"))?;
                if *found == code {
                    return Ok(Some(value));
                }
                options = rest;
            }
            [_] => return Err(Malformed("option")),
        }
    }
}

/// What a whole IPv4 packet carries to this UDP port; nothing of any other packet. Checksums are the network card's.
pub fn payload_of_packet(packet: &[u8], port: u16) -> Option<&[u8]> {
    let first = *packet.first()?;
    let header = usize::from(first & 0x0f) * 4;
    if first >> 4 != 4 || header < IPV4_HEADER_LEAST || packet.len() < IPV4_HEADER_LEAST || packet[9] != UDP {
        return None;
    }
    let whole = usize::from(u16::from_be_bytes([packet[2], packet[3]]));
    if u16::from_be_bytes([packet[6], packet[7]]) & FRAGMENT != 0 {
        return None;
    }
    let datagram = packet.get(header..whole)?;
    if datagram.len() < UDP_HEADER || u16::from_be_bytes([datagram[2], datagram[3]]) != port {
        return None;
    }
    datagram.get(UDP_HEADER..usize::from(u16::from_be_bytes([datagram[4], datagram[5]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 7];

    fn transaction() -> Transaction {
        Transaction::new(0x1234_5678, MAC)
    }

    /// A server's message: of this kind, for our transaction, with these options.
    fn answer(kind: u8, options: &[&[u8]]) -> Vec<u8> {
        let mut message = vec![0; OPTIONS];
        message[..3].copy_from_slice(&[2, 1, 6]);
        message[4..8].copy_from_slice(&[0x12, 0x34, 0x56, 0x78]);
        message[16..20].copy_from_slice(&[10, 0, 7, 9]);
        message[28..34].copy_from_slice(&MAC);
        message[236..240].copy_from_slice(&[99, 130, 83, 99]);
        message.extend([53, 1, kind, 0, 54, 4, 10, 0, 0, 1]);
        message.extend(options.concat());
        message.push(255);
        message
    }

    /// The options of a server of EC2.
    const OF_EC2: [&[u8]; 4] = [
        &[1, 4, 255, 255, 240, 0],
        &[3, 4, 10, 0, 0, 1],
        &[6, 4, 10, 0, 0, 2],
        &[26, 2, 0x23, 0x29],
    ];

    fn lease() -> Lease {
        Lease {
            server: [10, 0, 0, 1].into(),
            address: [10, 0, 7, 9].into(),
            prefix: 20,
            router: Some([10, 0, 0, 1].into()),
            resolvers: vec![[10, 0, 0, 2].into()],
            mtu: Some(9001),
        }
    }

    #[test]
    fn answers_of_a_server_are_read() {
        let transaction = transaction();
        assert_eq!(transaction.read(&answer(2, &OF_EC2)), Ok(Answer::Offer(lease())));
        assert_eq!(
            transaction.read(&answer(5, &OF_EC2)),
            Ok(Answer::Acknowledged(lease()))
        );
        assert_eq!(transaction.read(&answer(6, &[])), Ok(Answer::Refused));
        let Ok(Answer::Offer(bare)) = transaction.read(&answer(2, &[])) else {
            panic!("it is no offer")
        };
        assert_eq!((bare.prefix, bare.router, bare.mtu), (32, None, None));
    }

    #[test]
    fn what_is_wrong_is_named() {
        let problem = |options: &[&[u8]]| transaction().read(&answer(2, options)).unwrap_err().0;
        assert_eq!(problem(&[&[1, 4, 255, 0, 255, 0]]), "subnet mask");
        assert_eq!(problem(&[&[1, 4, 0, 0, 0, 0]]), "subnet mask");
        assert_eq!(problem(&[&[3, 3, 10, 0, 0]]), "router");
        assert_eq!(problem(&[&[26, 2, 0, 67]]), "MTU");
        assert_eq!(problem(&[&[6, 200, 1]]), "option");
        assert_eq!(
            Transaction::new(1, MAC).read(&answer(2, &[])).unwrap_err().0,
            "transaction"
        );
        assert_eq!(
            Transaction::new(0x1234_5678, [0; 6])
                .read(&answer(2, &[]))
                .unwrap_err()
                .0,
            "hardware address"
        );
        let mut from_client = answer(2, &[]);
        from_client[0] = 1;
        assert!(transaction().read(&from_client).is_err());
        let mut nobody = answer(2, &[]);
        nobody[16..20].fill(255);
        assert_eq!(transaction().read(&nobody).unwrap_err().0, "address");
    }

    #[test]
    fn a_request_names_the_offer_and_its_server() {
        let request = transaction().request(&lease());
        let options = &request[OPTIONS..];
        assert_eq!(option(options, 53).unwrap(), Some(&[3][..]));
        assert_eq!(option(options, 50).unwrap(), Some(&[10, 0, 7, 9][..]));
        assert_eq!(option(options, 54).unwrap(), Some(&[10, 0, 0, 1][..]));
        assert_eq!(option(&transaction().discover()[OPTIONS..], 54).unwrap(), None);
    }

    #[test]
    fn only_whole_datagrams_to_the_port_are_taken() {
        let mut packet = vec![0x45, 0, 0, 31, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 7, 9];
        packet.extend([0, 67, 0, 68, 0, 11, 0, 0]);
        packet.extend(b"abc");
        // What an Ethernet frame is filled up with.
        packet.extend([0; 9]);
        assert_eq!(payload_of_packet(&packet, 68), Some(&b"abc"[..]));
        assert_eq!(payload_of_packet(&packet, 69), None);
        assert_eq!(payload_of_packet(&packet[..30], 68), None);
        for (position, value) in [(0, 0x65), (0, 0x41), (6, 0x20), (9, 6), (3, 200), (25, 200)] {
            let mut other = packet.clone();
            other[position] = value;
            assert_eq!(payload_of_packet(&other, 68), None, "byte {position}");
        }
    }
}
