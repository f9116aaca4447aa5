#!/usr/bin/env bash
# Software:  qemu-storage-daemon 7.2 (Debian 12, package qemu-system-common), which has the monitor
#            protocol (QMP) and its code in common with qemu-system; the latter does the same.
# Input:     a client asks for a disk whose server (in the script) keeps the monitor waiting, gives
#            up, closes, connects anew, and asks for qmp_capabilities, query-version and
#            query-block-jobs; only then the disk's server answers. Without ids, with ids that count
#            from 1 on each connection, and with ids that are never used twice.
# One would guess: a connection gets the answers to its own requests, or what was asked on one that
#            is gone is answered to nobody; and a new connection answers qmp_capabilities first.
# Seen:      the first answer on the new connection is that of the old request, before the new one's
#            own, in each of the runs. Without ids every answer is then taken for that of the next
#            request: a disk that was added reads as capabilities granted, one that failed as a
#            monitor that refuses them. Ids that begin at 1 again give the old answer to the second
#            request; only ids that are never used twice tell it from the others.
#            Output: "failed, no ids: qmp_capabilities got an error of the disk"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq qemu-system-common libaio1 libfuse3-3 libnuma1 liburing2 >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu:$dir/root/lib/x86_64-linux-gnu"
root/usr/bin/qemu-storage-daemon --version | sed -nE 's/.* version ([0-9]+\.[0-9]+).*/\1/p' >seen

cat >talk.py <<'PY'
import itertools
import json
import socket
import subprocess
import time

PROGRAM = "root/usr/bin/qemu-storage-daemon"
MONITOR = ["--chardev", "socket,id=m,path=monitor,server=on,wait=off", "--monitor", "chardev=m"]
DISK = {"driver": "nbd", "node-name": "disk", "server": {"type": "unix", "path": "disk"}}
GREETING = b"NBDMAGIC" + (0x420281861253).to_bytes(8, "big") + (1 << 20).to_bytes(8, "big")
ASKED = ("qmp_capabilities", "query-version", "query-block-jobs")

class Connection:
    def __init__(self, ids):
        self.ids = ids
        self.socket = socket.socket(socket.AF_UNIX)
        while self.socket.connect_ex("monitor"):
            time.sleep(0.01)
        self.socket.settimeout(20)
        self.lines = self.socket.makefile("r")
        assert "QMP" in json.loads(self.lines.readline())

    def ask(self, command, **more):
        request = {"execute": command, **more}
        if self.ids:
            request["id"] = next(self.ids)
        self.socket.sendall(json.dumps(request).encode() + b"\n")
        return request.get("id")

    def close(self):
        self.lines.close()
        self.socket.close()

def told(answer):
    if "error" in answer:
        return "an error of the disk" if "magic" in answer["error"]["desc"] else "an error"
    return "a version" if "qemu" in answer["return"] else json.dumps(answer["return"])

def run(name, ids, adds):
    server = socket.socket(socket.AF_UNIX)
    server.bind("disk")
    server.listen()
    first = Connection(ids())
    first.ask("qmp_capabilities")
    first.lines.readline()
    first.ask("blockdev-add", arguments=DISK)
    disk, _ = server.accept()
    first.close()
    # The greeting of the second connection has been read before the disk answers.
    second = Connection(ids())
    asked = {second.ask(command): command for command in ASKED}
    if adds:
        disk.sendall(GREETING + bytes(128))
    else:
        disk.close()
    answers = [json.loads(second.lines.readline()) for _ in range(4)]
    server.close()
    if second.ids:
        got = [(asked.get(answer["id"], "nobody"), answer) for answer in answers]
    else:
        got = zip((*ASKED, "nobody"), answers)
    said = "added" if adds else "failed"
    for who, answer in got:
        print(f"{said}, {name}: {who} got {told(answer)}")
    second.close()
    disk.close()

never_twice = itertools.count(1)
for adds in (True, False):
    for name, ids in (
        ("no ids", lambda: None),
        ("ids from 1", lambda: itertools.count(1)),
        ("ids never twice", lambda: never_twice),
    ):
        daemon = subprocess.Popen([PROGRAM, *MONITOR])
        try:
            run(name, ids, adds)
        finally:
            daemon.terminate()
            daemon.wait()
            subprocess.run(["rm", "-f", "monitor", "disk"], check=True)
PY
timeout 120 python3 talk.py >>seen

cat >expected <<'TXT'
7.2
added, no ids: qmp_capabilities got {}
added, no ids: query-version got {}
added, no ids: query-block-jobs got a version
added, no ids: nobody got []
added, ids from 1: query-version got {}
added, ids from 1: qmp_capabilities got {}
added, ids from 1: query-version got a version
added, ids from 1: query-block-jobs got []
added, ids never twice: nobody got {}
added, ids never twice: qmp_capabilities got {}
added, ids never twice: query-version got a version
added, ids never twice: query-block-jobs got []
failed, no ids: qmp_capabilities got an error of the disk
failed, no ids: query-version got {}
failed, no ids: query-block-jobs got a version
failed, no ids: nobody got []
failed, ids from 1: query-version got an error of the disk
failed, ids from 1: qmp_capabilities got {}
failed, ids from 1: query-version got a version
failed, ids from 1: query-block-jobs got []
failed, ids never twice: nobody got an error of the disk
failed, ids never twice: qmp_capabilities got {}
failed, ids never twice: query-version got a version
failed, ids never twice: query-block-jobs got []
TXT
if ! diff -u expected seen; then
  echo "changed: a new connection to the monitor gets other answers first" >&2
  exit 1
fi
cat seen
echo "as recorded: what was asked on a connection that is gone is answered on the next"
