//! A guest's network, as the host says it on the kernel's command line.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

/// The words of the command line.
const ADDRESS: &str = "tallyman.net=";
const NAME_SERVERS: &str = "tallyman.dns=";

/// The settings of a guest's network card.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// The guest's address.
    pub address: Ipv4Addr,
    /// Length of the prefix of its link, in bits, up to 32.
    pub prefix: u8,
    /// The address through which it reaches everybody else.
    pub gateway: Ipv4Addr,
    /// Name servers, in the order in which they are asked.
    pub name_servers: Vec<Ipv4Addr>,
}

impl Settings {
    /// The words of the kernel's command line.
    pub fn words(&self) -> String {
        let Self { address, prefix, gateway, name_servers } = self;
        let mut words = format!("{ADDRESS}{address}/{prefix},{gateway}");
        for (number, server) in name_servers.iter().enumerate() {
            let before = if number == 0 { format!(" {NAME_SERVERS}") } else { ",".into() };
            // A text takes everything.
            let _ = write!(words, "{before}{server}");
        }
        words
    }

    /// Finds the settings among the words of a command line, the last ones if there are several;
    /// none without an address that can be read.
    pub fn find(cmdline: &str) -> Option<Self> {
        let last = |name| cmdline.split_whitespace().rev().find_map(|word| word.strip_prefix(name));
        let (link, gateway) = last(ADDRESS)?.split_once(',')?;
        let (address, prefix) = link.split_once('/')?;
        let servers = last(NAME_SERVERS).unwrap_or_default().split(',');
        Some(Self {
            address: address.parse().ok()?,
            prefix: prefix.parse().ok().filter(|&prefix| prefix <= 32)?,
            gateway: gateway.parse().ok()?,
            name_servers: servers.filter_map(|server| server.parse().ok()).collect(),
        })
    }

    /// The mask of the link.
    pub fn mask(&self) -> Ipv4Addr {
        let host_bits = 32 - u32::from(self.prefix.min(32));
        Ipv4Addr::from_bits(u32::MAX.checked_shl(host_bits).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(servers: &[[u8; 4]]) -> Settings {
        Settings {
            address: [10, 213, 0, 5].into(),
            prefix: 31,
            gateway: [10, 213, 0, 4].into(),
            name_servers: servers.iter().map(|&server| server.into()).collect(),
        }
    }

    #[test]
    fn settings_come_back_from_their_words() {
        for servers in [&[][..], &[[192, 0, 2, 1]], &[[192, 0, 2, 1], [192, 0, 2, 2]]] {
            let settings = settings(servers);
            let line = format!("quiet {} panic=-1", settings.words());
            assert_eq!(Settings::find(&line), Some(settings));
        }
        assert_eq!(
            settings(&[[1, 2, 3, 4]]).words(),
            "tallyman.net=10.213.0.5/31,10.213.0.4 tallyman.dns=1.2.3.4"
        );
    }

    #[test]
    fn what_is_no_setting_is_none_and_the_last_one_holds() {
        for line in
            ["", "quiet", "tallyman.net=", "tallyman.net=1.2.3.4/33,1.2.3.5", "tallyman.net=a/1,b"]
        {
            assert_eq!(Settings::find(line), None, "{line}");
        }
        let line = format!("tallyman.net=1.2.3.4/24,1.2.3.1 {}", settings(&[]).words());
        assert_eq!(Settings::find(&line), Some(settings(&[])));
    }

    #[test]
    fn masks_have_as_many_bits_as_the_prefix() {
        let mask = |prefix| Settings { prefix, ..settings(&[]) }.mask().to_string();
        let masks =
            [(0, "0.0.0.0"), (8, "255.0.0.0"), (31, "255.255.255.254"), (32, "255.255.255.255")];
        for (prefix, expected) in masks {
            assert_eq!(mask(prefix), expected);
        }
    }
}
