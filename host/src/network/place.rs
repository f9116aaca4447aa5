//! Places that guests may send to: networks, and a protocol and ports there.

use std::fmt;
use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::str::FromStr;

use ipnet::Ipv4Net;
use serde::{Deserialize, Serialize};

/// A place that a guest may send to: a network, and perhaps only by one protocol and to some ports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Place {
    network: Ipv4Net,
    protocol: Option<Protocol>,
    ports: Option<Ports>,
}

/// A protocol above IP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP.
    Icmp,
}

/// Ports from the first to the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(RangeInclusive<u16>);

/// A text that is no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnknownPlace {
    /// The network.
    #[error(
        "'{0}' is no IPv4 network; write it like 10.0.0.0/8, with zeros behind the prefix, or a \
         single address like 192.0.2.7"
    )]
    Network(String),
    /// The protocol.
    #[error("'{0}' is no protocol; write tcp, udp or icmp, or nothing for every protocol")]
    Protocol(String),
    /// The ports.
    #[error("'{0}' are no ports; write one like 443, or the first and the last like 8000-8010")]
    Ports(String),
    /// Ports of something that has none.
    #[error("only tcp and udp have ports; name one of them, as in tcp:10.0.0.0/8:443")]
    WithoutPorts,
}

impl Protocol {
    /// All protocols.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];

    /// The name, as requests and rules have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
        }
    }
}

impl FromStr for Protocol {
    type Err = UnknownPlace;
    fn from_str(text: &str) -> Result<Self, UnknownPlace> {
        let known = Self::ALL.into_iter().find(|protocol| protocol.name() == text);
        known.ok_or_else(|| UnknownPlace::Protocol(shown(text)))
    }
}

impl Ports {
    /// The first and the last one.
    pub(super) fn ends(&self) -> [u16; 2] {
        [*self.0.start(), *self.0.end()]
    }
}

impl FromStr for Ports {
    type Err = UnknownPlace;
    fn from_str(text: &str) -> Result<Self, UnknownPlace> {
        let unknown = || UnknownPlace::Ports(shown(text));
        let port = |digits: &str| {
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse().ok().filter(|&port: &u16| is_plain && port != 0).ok_or_else(unknown)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let ports = port(first)?..=port(last)?;
        if ports.is_empty() { Err(unknown()) } else { Ok(Self(ports)) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.ends() {
            [first, last] if first == last => write!(f, "{first}"),
            [first, last] => write!(f, "{first}-{last}"),
        }
    }
}

impl Place {
    /// A place.
    ///
    /// # Errors
    /// [`UnknownPlace`] if the text is no network, and for ports without TCP or UDP.
    pub fn new(
        network: &str,
        protocol: Option<Protocol>,
        ports: Option<Ports>,
    ) -> Result<Self, UnknownPlace> {
        let has_ports = matches!(protocol, Some(Protocol::Tcp | Protocol::Udp));
        if ports.is_some() && !has_ports {
            return Err(UnknownPlace::WithoutPorts);
        }
        let unknown = || UnknownPlace::Network(shown(network));
        let single = network.parse::<Ipv4Addr>().ok().map(Ipv4Net::from);
        let parsed = single.or_else(|| network.parse().ok()).ok_or_else(unknown)?;
        let is_plain = parsed.addr() == parsed.network();
        if is_plain { Ok(Self { network: parsed, protocol, ports }) } else { Err(unknown()) }
    }

    /// The network.
    pub fn network(&self) -> Ipv4Net {
        self.network
    }

    /// The protocol; none for every one.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol
    }

    /// The ports; none for every one.
    pub fn ports(&self) -> Option<&Ports> {
        self.ports.as_ref()
    }
}

/// `[tcp:|udp:|icmp:]NETWORK[:PORTS]`.
impl FromStr for Place {
    type Err = UnknownPlace;
    fn from_str(text: &str) -> Result<Self, UnknownPlace> {
        let begins_with_digit = text.starts_with(|first: char| first.is_ascii_digit());
        let (protocol, rest) = match text.split_once(':') {
            Some((protocol, rest)) if !begins_with_digit => (Some(protocol.parse()?), rest),
            Some(_) | None => (None, text),
        };
        let (network, ports) = match rest.split_once(':') {
            Some((network, ports)) => (network, Some(ports.parse()?)),
            None => (rest, None),
        };
        Self::new(network, protocol, ports)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(protocol) = self.protocol {
            write!(f, "{}:", protocol.name())?;
        }
        write!(f, "{}", self.network)?;
        self.ports.iter().try_for_each(|ports| write!(f, ":{ports}"))
    }
}

impl TryFrom<String> for Place {
    type Error = UnknownPlace;
    fn try_from(text: String) -> Result<Self, UnknownPlace> {
        text.parse()
    }
}

impl From<Place> for String {
    fn from(place: Place) -> Self {
        place.to_string()
    }
}

/// The beginning of a text that was not understood.
fn shown(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_read_back_as_it_is_written() {
        for text in [
            "10.0.0.0/8",
            "0.0.0.0/0",
            "tcp:10.0.0.0/8",
            "tcp:192.0.2.7/32:443",
            "udp:192.0.2.0/24:8000-8010",
            "icmp:192.0.2.0/24",
        ] {
            let place: Place = text.parse().expect(text);
            assert_eq!(place.to_string(), text);
        }
        let single: Place = "tcp:192.0.2.7:1-65535".parse().expect("a place");
        assert_eq!(single.to_string(), "tcp:192.0.2.7/32:1-65535");
    }

    #[test]
    fn what_is_no_place_is_refused_with_its_part() {
        let network = |text: &str| UnknownPlace::Network(text.into());
        let ports = |text: &str| UnknownPlace::Ports(text.into());
        let rows = [
            ("", network("")),
            ("10.0.0.1/8", network("10.0.0.1/8")),
            ("10.0.0.0/33", network("10.0.0.0/33")),
            ("tcp:example.org:443", network("example.org")),
            ("sctp:10.0.0.0/8", UnknownPlace::Protocol("sctp".into())),
            ("10.0.0.0/8:443", UnknownPlace::WithoutPorts),
            ("icmp:10.0.0.0/8:1", UnknownPlace::WithoutPorts),
            ("tcp:10.0.0.0/8:", ports("")),
            ("tcp:10.0.0.0/8:0", ports("0")),
            ("tcp:10.0.0.0/8:+1", ports("+1")),
            ("tcp:10.0.0.0/8:65536", ports("65536")),
            ("tcp:10.0.0.0/8:9-8", ports("9-8")),
            ("tcp:10.0.0.0/8:1-2-3", ports("1-2-3")),
        ];
        for (text, error) in rows {
            assert_eq!(text.parse::<Place>(), Err(error), "{text}");
        }
    }
}
