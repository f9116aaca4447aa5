//! The rules of packets, as `nft` takes them: JSON, carried out whole or not at all.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{GUEST_MAC, Place, Plan, Pool, TAP};
use crate::limits::network::BURST_BYTES_MIN;

/// Name of the table in the namespace of a launch.
pub(super) const TABLE: &str = "tallyman";

/// Name of the counter of what the guest received.
pub(super) const IN: &str = "guest_in";

/// Name of the counter of what the guest sent.
pub(super) const OUT: &str = "guest_out";

/// Name of the counter of what was above a limit.
const LIMITED: &str = "limited";

/// Name of the counter of what was for places that the guest may not send to.
const NOT_ALLOWED: &str = "not_allowed";

/// Name of the chain that has the places that a guest may send to.
const ALLOWED: &str = "allowed";

/// Share of a second's bytes that may come at once: an eighth.
const BURST: u64 = 8;

/// Name of the device in the namespace of a launch that leads to the host.
pub(super) const UPLINK: &str = "veth0";

/// The beginning of the names of the host's devices that lead to guests.
pub(super) const DEVICE_PREFIX: &str = "tally";

/// The largest packet that a link of Ethernet carries.
const PACKET_BYTES_MAX: u32 = 1_500;

/// Networks that no guest reaches: nobody's, the host's own, link-local ones, which are where
/// clouds have their metadata, those of many receivers, and reserved ones.
const CLOSED: [(Ipv4Addr, u8); 5] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

/// Name of the host's device that leads to a guest.
pub(super) fn device(address: Ipv4Addr) -> String {
    format!("{DEVICE_PREFIX}{:08x}", address.to_bits())
}

/// The guest that a device of the host leads to; none if it leads to no guest.
pub(super) fn address_of(device: &str) -> Option<Ipv4Addr> {
    let digits = device.strip_prefix(DEVICE_PREFIX).filter(|digits| digits.len() == 8)?;
    u32::from_str_radix(digits, 16).ok().map(Ipv4Addr::from_bits)
}

/// A table of rules, being written.
struct Table {
    family: &'static str,
    name: String,
    commands: Vec<Value>,
}

impl Table {
    fn new(family: &'static str, name: &str) -> Self {
        let table = json!({ "table": { "family": family, "name": name } });
        Self { family, name: name.into(), commands: vec![json!({ "add": table })] }
    }

    /// A table that takes the place of an earlier one of its name, in the same transaction.
    fn anew(family: &'static str, name: &str) -> Self {
        let mut table = Self::new(family, name);
        let add = table.commands[0].clone();
        table.commands.push(json!({ "delete": add["add"] }));
        table.commands.push(add);
        table
    }

    fn add(mut self, kind: &str, mut body: Value) -> Self {
        body["family"] = self.family.into();
        body["table"] = self.name.clone().into();
        self.commands.push(json!({ "add": { kind: body } }));
        self
    }

    fn counter(self, name: &str) -> Self {
        self.add("counter", json!({ "name": name }))
    }

    fn chain(self, name: &str, hook: &str, priority: i32, policy: &str) -> Self {
        let kind = if hook == "postrouting" { "nat" } else { "filter" };
        let body = json!({
            "name": name, "type": kind, "hook": hook, "prio": priority, "policy": policy,
        });
        self.add("chain", body)
    }

    /// Refuses what a guest sends to places that are not on its list. Its answers to what it was
    /// asked from outside pass.
    fn allow(self, places: Option<&[Place]>) -> Self {
        let Some(places) = places else { return self };
        let back = || json!({ "return": null });
        let table = self
            .add("chain", json!({ "name": ALLOWED }))
            .rule(ALLOWED, vec![of_known_connection(), back()]);
        let allow = |table: Self, place| table.rule(ALLOWED, [to(place), vec![back()]].concat());
        places
            .iter()
            .fold(table, allow)
            .rule(ALLOWED, vec![count(NOT_ALLOWED), refuse()])
            .rule("forward", vec![is(meta("iifname"), TAP), jump(ALLOWED)])
    }

    /// Accepts what guests send to these places.
    fn open(self, chain: &str, places: &[Place]) -> Self {
        let parts = |place| [vec![from_guests()], to(place), vec![accept()]].concat();
        places.iter().fold(self, |table, place| table.rule(chain, parts(place)))
    }

    /// Has what guests of a network send to the world leave under the host's own address.
    fn leave(self, network: Value) -> Self {
        let to_world = is_not(meta("oifname"), format!("{DEVICE_PREFIX}*"));
        self.chain("leaving", "postrouting", 100, "accept").rule(
            "leaving",
            vec![is(field("ip", "saddr"), network), to_world, json!({ "masquerade": null })],
        )
    }

    /// Drops what comes from a device above a rate, in bytes a second.
    fn limit(self, device: &str, rate: Option<u64>) -> Self {
        let Some(rate) = rate else { return self };
        let burst = (rate / BURST).max(BURST_BYTES_MIN);
        let over = json!({ "limit": {
            "rate": rate, "rate_unit": "bytes", "per": "second", "inv": true,
            "burst": burst, "burst_unit": "bytes",
        } });
        self.rule("forward", vec![is(meta("iifname"), device), over, count(LIMITED), drop()])
    }

    fn rule(self, chain: &str, parts: Vec<Value>) -> Self {
        self.add("rule", json!({ "chain": chain, "expr": parts }))
    }
}

fn is(left: Value, right: impl Into<Value>) -> Value {
    json!({ "match": { "op": "==", "left": left, "right": right.into() } })
}

fn is_not(left: Value, right: impl Into<Value>) -> Value {
    json!({ "match": { "op": "!=", "left": left, "right": right.into() } })
}

fn above(left: Value, right: u32) -> Value {
    json!({ "match": { "op": ">", "left": left, "right": right } })
}

fn meta(key: &str) -> Value {
    json!({ "meta": { "key": key } })
}

fn field(protocol: &str, field: &str) -> Value {
    json!({ "payload": { "protocol": protocol, "field": field } })
}

fn prefix(address: Ipv4Addr, length: u8) -> Value {
    json!({ "prefix": { "addr": address.to_string(), "len": length } })
}

fn count(name: &str) -> Value {
    json!({ "counter": name })
}

fn drop() -> Value {
    json!({ "drop": null })
}

/// Refuses a packet, and tells its sender so.
fn refuse() -> Value {
    json!({ "reject": { "type": "icmp", "expr": "admin-prohibited" } })
}

fn jump(chain: &str) -> Value {
    json!({ "jump": { "target": chain } })
}

fn from_guests() -> Value {
    is(meta("iifname"), format!("{DEVICE_PREFIX}*"))
}

/// Packets to a place.
fn to(place: &Place) -> Vec<Value> {
    let network = place.network();
    let everywhere = network.prefix_len() == 0;
    let there = || is(field("ip", "daddr"), prefix(network.network(), network.prefix_len()));
    let mut parts: Vec<_> = (!everywhere).then(there).into_iter().collect();
    let Some(protocol) = place.protocol() else { return parts };
    parts.push(match place.ports() {
        Some(ports) => is(field(protocol.name(), "dport"), json!({ "range": ports.ends() })),
        None => is(field("ip", "protocol"), protocol.name()),
    });
    parts
}

fn accept() -> Value {
    json!({ "accept": null })
}

/// Packets of a connection that is known, or that belong to one.
fn of_known_connection() -> Value {
    let state = json!({ "ct": { "key": "state" } });
    json!({ "match": { "op": "in", "left": state, "right": ["established", "related"] } })
}

fn all(tables: impl IntoIterator<Item = Table>) -> Value {
    let commands = tables.into_iter().flat_map(|table| table.commands);
    json!({ "nftables": commands.collect::<Vec<_>>() })
}

/// The rules in the namespace of a launch: a guest sends from its own addresses only, everything
/// else than IPv4 and its address resolution is dropped, and what passes is counted.
pub(super) fn of_launch(plan: &Plan) -> Value {
    all([guard(plan), forwarding(plan)])
}

/// The packets that the guest's device lets in.
fn guard(plan: &Plan) -> Table {
    let chain = json!({
        "name": "from_guest", "type": "filter", "hook": "ingress", "dev": TAP, "prio": -500,
        "policy": "drop",
    });
    let address = plan.address.to_string();
    let protocol = || meta("protocol");
    Table::new("netdev", TABLE)
        .counter("spoofed")
        .counter("refused")
        .add("chain", chain)
        .rule(
            "from_guest",
            vec![is_not(field("ether", "saddr"), GUEST_MAC), count("spoofed"), drop()],
        )
        // Larger than on the wire are several packets handed over as one, which would be counted as
        // one. The agent has its guest hand over none.
        .rule("from_guest", vec![above(meta("length"), PACKET_BYTES_MAX), count("refused"), drop()])
        .rule(
            "from_guest",
            vec![
                is(protocol(), "arp"),
                is(field("arp", "saddr ether"), GUEST_MAC),
                is(field("arp", "saddr ip"), address.clone()),
                accept(),
            ],
        )
        .rule("from_guest", vec![is(protocol(), "ip"), is(field("ip", "saddr"), address), accept()])
        .rule("from_guest", vec![is(protocol(), "ip"), count("spoofed"), drop()])
        .rule("from_guest", vec![count("refused"), drop()])
}

/// The packets that pass between the guest and the host's network. The counters come last, so that
/// they have what was forwarded.
fn forwarding(plan: &Plan) -> Table {
    let address = plan.address.to_string();
    let echo = || is(field("icmp", "type"), "echo-request");
    Table::new("ip", TABLE)
        .counter(IN)
        .counter(OUT)
        .counter(LIMITED)
        .counter(NOT_ALLOWED)
        .chain("forward", "forward", 0, "drop")
        .allow(plan.allowed.as_deref())
        .limit(TAP, plan.upload_bytes_max)
        .limit(UPLINK, plan.download_bytes_max)
        .rule(
            "forward",
            vec![is(meta("iifname"), TAP), is(meta("oifname"), UPLINK), count(OUT), accept()],
        )
        .rule(
            "forward",
            vec![
                is(meta("iifname"), UPLINK),
                is(meta("oifname"), TAP),
                is(field("ip", "daddr"), address),
                count(IN),
                accept(),
            ],
        )
        .chain("input", "input", 0, "drop")
        // A guest may ask whether its gateway is there, and get nothing else of it.
        .rule("input", vec![is(meta("iifname"), TAP), echo(), accept()])
}

/// The host's rules for all guests with addresses of a pool; `open` are places that would be closed
/// to them otherwise. They take the place of earlier rules.
pub(super) fn of_host(pool: Pool, open: &[Place]) -> Value {
    let network = pool.network();
    let name = format!("{TABLE}_{:08x}", network.network().to_bits());
    let own = || prefix(network.network(), network.prefix_len());
    let from_guest = from_guests;
    let to_guest = || is(meta("oifname"), format!("{DEVICE_PREFIX}*"));
    let ipv6 = || is(meta("nfproto"), "ipv6");
    let local = is(json!({ "fib": { "result": "type", "flags": ["daddr"] } }), "local");
    let closed = CLOSED.map(|(address, length)| prefix(address, length));
    let closed = is(field("ip", "daddr"), json!({ "set": closed }));
    let table = Table::anew("inet", &name)
        // After connections are looked up, and before addresses are replaced: what the host offers
        // under another address is the host's, too.
        .chain("arriving", "prerouting", -150, "accept")
        .rule("arriving", vec![from_guest(), ipv6(), drop()])
        .rule("arriving", vec![from_guest(), of_known_connection(), accept()])
        .open("arriving", open)
        .rule("arriving", vec![from_guest(), local, drop()])
        .rule("arriving", vec![from_guest(), closed, drop()])
        .chain("input", "input", -10, "accept")
        .rule("input", vec![from_guest(), of_known_connection(), accept()])
        .open("input", open)
        .rule("input", vec![from_guest(), drop()])
        .chain("forward", "forward", -10, "accept")
        .rule("forward", vec![to_guest(), ipv6(), drop()])
        .rule("forward", vec![from_guest(), to_guest(), drop()])
        .rule("forward", vec![from_guest(), is(field("ip", "daddr"), own()), drop()])
        .rule("forward", vec![to_guest(), of_known_connection(), accept()])
        .rule("forward", vec![to_guest(), drop()])
        .leave(own());
    all([table])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let address = Ipv4Addr::new(10, 213, 0, 5);
        Plan { address, upload_bytes_max: None, download_bytes_max: None, allowed: None }
    }

    fn rules(text: &Value) -> Vec<&Value> {
        let commands = text["nftables"].as_array().expect("a list").iter();
        commands.map(|command| &command["add"]["rule"]).filter(|rule| !rule.is_null()).collect()
    }

    #[test]
    fn a_device_has_a_name_that_the_kernel_takes() {
        let name = device(Ipv4Addr::new(255, 255, 255, 253));
        assert!(name.len() < 16 && name == "tallyfffffffd", "{name}");
        assert_eq!(address_of(&name), Some(Ipv4Addr::new(255, 255, 255, 253)));
        for other in ["tally", "tally0ad5", "eth0", "tallyXad50001", "xtally0ad50001"] {
            assert_eq!(address_of(other), None, "{other}");
        }
    }

    #[test]
    fn what_passes_a_launch_is_counted_in_the_last_rule_of_its_way() {
        let text = of_launch(&plan());
        let forwards: Vec<_> =
            rules(&text).into_iter().filter(|rule| rule["chain"] == "forward").collect();
        let counted = |rule: &&&Value| {
            let parts = rule["expr"].as_array().expect("parts");
            let [.., count, verdict] = parts.as_slice() else { return false };
            count["counter"].is_string() && verdict.get("accept").is_some()
        };
        assert_eq!(forwards.iter().filter(counted).count(), 2);
        assert_eq!(forwards.len(), 2, "nothing else is accepted: {forwards:?}");
    }

    #[test]
    fn limits_come_before_what_is_counted_and_let_some_packets_through_at_once() {
        let plan =
            Plan { upload_bytes_max: Some(8_000), download_bytes_max: Some(1 << 30), ..plan() };
        let text = of_launch(&plan);
        let forwards = rules(&text).into_iter().filter(|rule| rule["chain"] == "forward");
        let limits: Vec<_> = forwards.map(|rule| rule["expr"][1]["limit"].clone()).collect();
        assert_eq!((&limits[0]["rate"], &limits[0]["burst"]), (&8_000.into(), &65_536.into()));
        assert_eq!(limits[1]["burst"], json!((1 << 30) / 8));
        assert!(limits[2].is_null() && limits[3].is_null());
    }

    #[test]
    fn a_list_is_looked_at_before_anything_is_let_through() {
        let places = ["tcp:192.0.2.0/24:80-81", "udp:0.0.0.0/0:53"];
        let places = places.map(|text| text.parse().expect("a place")).to_vec();
        let text = of_launch(&Plan { allowed: Some(places), ..plan() });
        let first = rules(&text).into_iter().find(|rule| rule["chain"] == "forward");
        assert_eq!(first.expect("a rule")["expr"][1], jump(ALLOWED));
        let allowed: Vec<_> =
            rules(&text).into_iter().filter(|rule| rule["chain"] == ALLOWED).collect();
        assert_eq!(allowed.len(), 4);
        assert_eq!(allowed[1]["expr"][1]["match"]["right"], json!({ "range": [80, 81] }));
        assert_eq!(allowed[2]["expr"][0]["match"]["left"], field("udp", "dport"));
        assert_eq!(allowed[3]["expr"], json!([count(NOT_ALLOWED), refuse()]));
        let open = rules(&of_launch(&plan())).len();
        assert_eq!(rules(&text).len(), open + 5, "no list, nothing of it");
    }

    #[test]
    fn what_an_operator_opens_is_accepted_before_what_is_closed_is_dropped() {
        let place = ["tcp:169.254.169.254/32:80".parse().expect("a place")];
        let text = of_host("10.213.0.0/16".parse().expect("a pool"), &place);
        for chain in ["arriving", "input"] {
            let own = rules(&text).into_iter().filter(|rule| rule["chain"] == chain);
            let is_open = |rule: &&Value| rule["expr"][1] == to(&place[0])[0];
            let own: Vec<_> = own.collect();
            let opened = own.iter().position(is_open).expect("opened");
            let closed = own.iter().rposition(|rule| rule["expr"].to_string().contains("drop"));
            assert!(Some(opened) < closed, "{chain}: {own:?}");
        }
    }

    #[test]
    fn chains_of_a_launch_drop_what_no_rule_accepts() {
        let text = of_launch(&plan());
        let commands = text["nftables"].as_array().expect("a list").iter();
        let chains: Vec<_> = commands
            .map(|command| &command["add"]["chain"])
            .filter(|chain| !chain.is_null())
            .collect();
        assert_eq!(chains.len(), 3);
        assert!(chains.iter().all(|chain| chain["policy"] == "drop"), "{chains:?}");
    }

    #[test]
    fn tables_of_pools_have_names_of_their_own_and_replace_themselves() {
        let of = |pool: &str| of_host(pool.parse().expect("a pool"), &[]);
        let one = of("10.213.0.0/16");
        let other = of("10.214.0.0/16");
        assert_eq!(one["nftables"][1]["delete"]["table"]["name"], "tallyman_0ad50000");
        assert_eq!(other["nftables"][1]["delete"]["table"]["name"], "tallyman_0ad60000");
    }
}
