#!/usr/bin/env bash
# Software:  PyPI qemu.qmp 0.0.6, QEMU's own client for its monitor protocol, against a small server
#            in the script that greets, answers and announces events as QEMU does.
# Input:     three commands at once on a first connection; then a second connection of the same
#            client, to another machine at the same path.
# One would guess: a JSON document a line each way, as QEMU's own answers come; and a connection
#            that begins with an empty queue of events.
# Seen:      the client ends nothing it sends, neither by CR LF nor by a space: commands come as
#            `}{` back to back, and even a single one never makes a whole line, so whatever stands
#            in between (a proxy, a recorder, a double in a test) has to find the ends in the JSON.
#            The first command has no id, all others have. Events that nobody took from `events` are
#            the first ones there after reconnecting: the new machine's STOP is behind the old
#            machine's STOP and RESUME, and a message names neither its machine nor its connection.
#            Output: "ends of lines sent: 0", "second machine's events: STOP RESUME STOP"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check qemu.qmp==0.0.6

cat >talk.py <<'PY'
import asyncio
import json
from qemu.qmp import QMPClient

VERSION = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
EVENTS = {"stop": "STOP", "cont": "RESUME"}
sent = []

async def machine(reader, writer):
    def say(message):
        writer.write(json.dumps(message).encode() + b"\r\n")

    say({"QMP": {"version": VERSION, "capabilities": ["oob"]}})
    waiting = ""
    while chunk := await reader.read(65536):
        sent.append(chunk.decode())
        waiting += chunk.decode()
        while waiting:
            command, end = json.JSONDecoder().raw_decode(waiting)
            waiting = waiting[end:].lstrip()
            if event := EVENTS.get(command["execute"]):
                say({"event": event, "timestamp": {"seconds": 1, "microseconds": 0}})
            reply = {"return": {}}
            if "id" in command:
                reply["id"] = command["id"]
            say(reply)
    writer.close()

async def main():
    server = await asyncio.start_unix_server(machine, "monitor")
    client = QMPClient("machine")
    await client.connect("monitor")
    commands = ("stop", "cont", "query-name")
    await asyncio.gather(*(client.execute(command) for command in commands))
    await client.disconnect()
    text = "".join(sent)
    print("ends of lines sent:", text.count("\n"), "back to back:", text.count("}{"))
    print("sent:", text)
    await client.connect("monitor")
    await client.execute("stop")
    print("second machine's events:", *(event["event"] for event in client.events.clear()))
    await client.disconnect()
    server.close()

asyncio.run(asyncio.wait_for(main(), 30))
PY
venv/bin/python talk.py >seen

cat >expected <<'TXT'
ends of lines sent: 0 back to back: 3
sent: {"execute":"qmp_capabilities","arguments":{"enable":["oob"]}}{"execute":"stop","id":"__qmp#00000"}{"execute":"cont","id":"__qmp#00001"}{"execute":"query-name","id":"__qmp#00002"}
second machine's events: STOP RESUME STOP
TXT
if ! diff -u expected seen; then
  echo "changed: qemu.qmp frames its commands or keeps events in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: commands without ends, and events that outlive their connection"
