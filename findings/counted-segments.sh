#!/usr/bin/env bash
# Software:  nftables 1.0.6 and iproute2 6.1 of Debian 12, on Linux; as root.
# Input:     the same 8 MiB over TCP through a router of three namespaces, counted by a rule of its
#            forward chain; once with devices as they are made, once with `gso_max_segs 1` on both
#            devices that send to the router. And a counter of 2^63 bytes.
# One would guess: a counter of bytes and packets says what went over the wire, and JSON says of a
#            counter what the text says.
# Seen:      devices hand on what the wire would carry in some forty packets as one, with one head:
#            the same bytes are counted 3 to 4 % lower, in a twentieth of the packets. Which of the
#            two a bill has depends on settings of devices that nobody looks at. The JSON of 2^63
#            bytes is negative.
#            Output: "as made: under 1000 packets; one segment at a time: over 5700, 3 % more bytes"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

id=$$
names="a$id r$id b$id"
trap 'for name in $names; do ip netns delete $name 2>/dev/null || true; done' EXIT

# Bytes and packets that the router counts of 8 MiB from b to a.
counted() {
    for name in $names; do
        ip netns add "$name"
        ip -n "$name" link set lo up
    done
    ip -n "r$id" link add to-a type veth peer name eth0 netns "a$id"
    ip -n "r$id" link add to-b type veth peer name eth0 netns "b$id"
    ip -n "r$id" address add 192.0.2.1/24 dev to-a
    ip -n "r$id" address add 198.51.100.1/24 dev to-b
    ip -n "a$id" address add 192.0.2.2/24 dev eth0
    ip -n "b$id" address add 198.51.100.2/24 dev eth0
    ip -n "r$id" link set to-a up
    ip -n "r$id" link set to-b up
    # The words are separate.
    # shellcheck disable=SC2086
    for name in a b; do ip -n "$name$id" link set eth0 $1 up; done
    ip -n "a$id" route add default via 192.0.2.1
    ip -n "b$id" route add default via 198.51.100.1
    ip netns exec "r$id" sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
    ip netns exec "r$id" nft -f - <<'NFT'
table ip counted {
    counter to-a { }
    chain forward {
        type filter hook forward priority 0
        oifname "to-a" counter name "to-a"
    }
}
NFT
    ip netns exec "a$id" python3 - "b$id" <<'PY'
import socket, subprocess, sys
listener = socket.create_server(("0.0.0.0", 7))
sender = subprocess.Popen(["ip", "netns", "exec", sys.argv[1], "python3", "-c", """
import socket
to = socket.create_connection(("192.0.2.2", 7))
to.sendall(bytes(8 << 20))
to.close()
"""])
taken, _ = listener.accept()
got = 0
while data := taken.recv(1 << 20):
    got += len(data)
assert got == 8 << 20 and sender.wait() == 0, got
PY
    ip netns exec "r$id" nft list counters | awk '/packets/ { print $4, $2 }'
    for name in $names; do ip netns delete "$name"; done
}

read -r bytes_joined packets_joined <<<"$(counted '')"
read -r bytes_single packets_single <<<"$(counted 'gso_max_segs 1')"
more=$(((bytes_single - bytes_joined) * 100 / bytes_joined))
[ "$packets_joined" -lt 1000 ] && joined="under 1000" || joined=$packets_joined
[ "$packets_single" -gt 5700 ] && single="over 5700" || single=$packets_single
seen="as made: $joined packets; one segment at a time: $single, $more % more bytes"

# A name space of its own goes with its only process.
negative=$(unshare --net sh -c '
    nft add table ip t
    nft add counter ip t c "{ packets 0 bytes 9223372036854775808 }"
    nft -j list counters' | python3 -c 'import json, sys
print(json.load(sys.stdin)["nftables"][-1]["counter"]["bytes"])')

diff <(printf '%s\n%s\n' "$seen" "$negative") - <<'EXPECTED'
as made: under 1000 packets; one segment at a time: over 5700, 3 % more bytes
-9223372036854775808
EXPECTED
