//! The rules of packets, as `nft` takes them: JSON, carried out whole or not at all.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{GUEST_MAC, Plan, Pool, TAP};
use crate::limits::network::BURST_BYTES_MIN;

/// Name of the table in the namespace of a launch.
pub(super) const TABLE: &str = "tallyman";

/// Name of the counter of what the guest received.
pub(super) const IN: &str = "guest_in";

/// Name of the counter of what the guest sent.
pub(super) const OUT: &str = "guest_out";

/// Name of the counter of what was above a limit.
const LIMITED: &str = "limited";

/// Share of a second's bytes that may come at once: an eighth.
const BURST: u64 = 8;

/// Name of the device in the namespace of a launch that leads to the host.
pub(super) const UPLINK: &str = "veth0";

/// The beginning of the names of the host's devices that lead to guests.
pub(super) const DEVICE_PREFIX: &str = "tally";

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
        .chain("forward", "forward", 0, "drop")
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

/// The host's rules for all guests with addresses of a pool. They take the place of earlier ones.
pub(super) fn of_host(pool: Pool) -> Value {
    let network = pool.network();
    let name = format!("{TABLE}_{:08x}", network.network().to_bits());
    let own = || prefix(network.network(), network.prefix_len());
    let from_guest = || is(meta("iifname"), format!("{DEVICE_PREFIX}*"));
    let to_guest = || is(meta("oifname"), format!("{DEVICE_PREFIX}*"));
    let of_pool = || is(field("ip", "saddr"), own());
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
        .rule("arriving", vec![from_guest(), local, drop()])
        .rule("arriving", vec![from_guest(), closed, drop()])
        .chain("input", "input", -10, "accept")
        .rule("input", vec![from_guest(), of_known_connection(), accept()])
        .rule("input", vec![from_guest(), drop()])
        .chain("forward", "forward", -10, "accept")
        .rule("forward", vec![to_guest(), ipv6(), drop()])
        .rule("forward", vec![from_guest(), to_guest(), drop()])
        .rule("forward", vec![from_guest(), is(field("ip", "daddr"), own()), drop()])
        .rule("forward", vec![to_guest(), of_known_connection(), accept()])
        .rule("forward", vec![to_guest(), drop()])
        .chain("leaving", "postrouting", 100, "accept")
        .rule(
            "leaving",
            vec![
                of_pool(),
                is_not(meta("oifname"), format!("{DEVICE_PREFIX}*")),
                json!({ "masquerade": null }),
            ],
        );
    all([table])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan() -> Plan {
        let address = Ipv4Addr::new(10, 213, 0, 5);
        Plan { address, upload_bytes_max: None, download_bytes_max: None }
    }

    fn rules(text: &Value) -> Vec<&Value> {
        let commands = text["nftables"].as_array().expect("a list").iter();
        commands.map(|command| &command["add"]["rule"]).filter(|rule| !rule.is_null()).collect()
    }

    #[test]
    fn a_device_has_a_name_that_the_kernel_takes() {
        let name = device(Ipv4Addr::new(255, 255, 255, 253));
        assert!(name.len() < 16 && name == "tallyfffffffd", "{name}");
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
        let of = |pool: &str| of_host(pool.parse().expect("a pool"));
        let one = of("10.213.0.0/16");
        let other = of("10.214.0.0/16");
        assert_eq!(one["nftables"][1]["delete"]["table"]["name"], "tallyman_0ad50000");
        assert_eq!(other["nftables"][1]["delete"]["table"]["name"], "tallyman_0ad60000");
    }
}
