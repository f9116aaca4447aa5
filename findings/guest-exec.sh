#!/usr/bin/env bash
# Software:  qemu-ga 7.2 (Debian 12, package qemu-guest-agent), started on a socket, without a
#            machine; it runs programs in guests on request.
# Input:     a program that exits with 7, whose state is asked for until it has ended and once more,
#            as a caller does who missed the answer; a shell that leaves a child behind and exits,
#            with its output asked for and without; requests with large and exact numbers as ids.
# One would guess: the state of what has ended can be asked for again; `exited` is about the program
#            that was started; an id comes back as it was sent.
# Seen:      the state is given once: asked again it is an error that the pid is invalid, as if it
#            had never run, and the exit code is lost with a lost answer. With its output captured,
#            a shell that ended at once has "exited": false as long as its child holds the output.
#            An id of 2^64 + 1 comes back as 1.8446744073709552e+19, 12.50 as 12.5.
#            Output: "asked again: Invalid parameter 'pid'"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'kill "${agent:-}" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq qemu-guest-agent liburing2 libnuma1 >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu:$dir/root/lib/x86_64-linux-gnu"
program=root/usr/sbin/qemu-ga
"$program" --version | sed -nE 's/.* ([0-9]+\.[0-9]+).*/version \1/p' >seen
"$program" -m unix-listen -p "$dir/agent" -t "$dir" -f "$dir/pid" 2>log &
agent=$!

cat >ask.py <<'PY'
import json
import os
import socket
import time

agent = socket.socket(socket.AF_UNIX)
while agent.connect_ex("agent"):
    time.sleep(0.01)
agent.settimeout(60)
lines = agent.makefile("r")

def ask(command, **arguments):
    request = {"execute": command, "arguments": arguments}
    agent.sendall(json.dumps(request).encode() + b"\n")
    answer = json.loads(lines.readline())
    return answer.get("return", answer.get("error", {}).get("desc"))

def start(script, capture):
    request = {"path": "/bin/sh", "arg": ["-c", script], "capture-output": capture}
    return ask("guest-exec", **request)["pid"]

def state(pid):
    return ask("guest-exec-status", pid=pid)

def ended(pid):
    while not (now := state(pid))["exited"]:
        time.sleep(0.05)
    return now

pid = start("exit 7", True)
print("a program that exits with 7:", ended(pid))
print("asked again:", state(pid))

def runs(pid):
    # Of what has ended, and was not collected, there is no such link.
    return os.path.exists(f"/proc/{pid}/exe")

# The child holds the shell's output until the file is there, for a minute at most.
wait = "timeout 60 sh -c 'until [ -e release ]; do sleep 0.1; done' & echo $! >child.new"
for capture in (False, True):
    pid = start(f"cd {os.getcwd()}; {wait}; mv child.new child; exit 7", capture)
    while not os.path.exists("child") or runs(pid):
        time.sleep(0.05)
    with open("child") as file:
        child = int(file.read())
    if capture:
        states = [state(pid)["exited"] for _ in range(100)]
        print("output captured, the shell has ended: exited", any(states))
    else:
        print("no output captured, the shell has ended:", ended(pid))
    print("the child runs:", runs(child))
    open("release", "w").close()
    while runs(child):
        time.sleep(0.05)
    if capture:
        print("output captured, the child has ended too:", ended(pid))
    os.remove("child")
    os.remove("release")

for number in ("1793988000123456789", "18446744073709551617", "12.50"):
    agent.sendall(b'{"execute":"guest-ping","id":' + number.encode() + b"}\n")
    print(f"id {number}: {lines.readline().strip()}")
PY
timeout 120 python3 ask.py >>seen

cat >expected <<'TXT'
version 7.2
a program that exits with 7: {'exitcode': 7, 'exited': True}
asked again: Invalid parameter 'pid'
no output captured, the shell has ended: {'exitcode': 7, 'exited': True}
the child runs: True
output captured, the shell has ended: exited False
the child runs: True
output captured, the child has ended too: {'exitcode': 7, 'exited': True}
id 1793988000123456789: {"return": {}, "id": 1793988000123456789}
id 18446744073709551617: {"return": {}, "id": 1.8446744073709552e+19}
id 12.50: {"return": {}, "id": 12.5}
TXT
if ! diff -u expected seen; then
  echo "changed: the guest agent tells the end of a program in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: an exit code is told once, and a child keeps it back"
