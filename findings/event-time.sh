#!/usr/bin/env bash
# Software:  PyPI cloudevents 2.2.0 (its core and its v1 interface), npm cloudevents 10.0.0.
# Input:     structured events of the specification's JSON: a time with nine digits one nanosecond
#            before December; the leap second at the end of 2016; and data that is the number 0.
# One would guess: a time comes out as it went in, or is cut alike everywhere; 0 is data.
# Seen:      one Python package has two answers: its core cuts to microseconds, its v1 keeps the
#            text. JavaScript cuts to milliseconds on reading, while an event made in JavaScript has
#            nine digits in `time` and three when it is sent. A leap second, valid in RFC 3339,
#            becomes the moment of reading in JavaScript, and is an error to Python's core. Data 0
#            is sent, and gone after reading.
#            Output: "js read, leap second: the time of reading", "js read, data 0: undefined"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check cloudevents==2.2.0
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact cloudevents@10.0.0

cat >events.json <<'JSON'
{
  "nine digits": {"specversion": "1.0", "id": "7", "source": "/host", "type": "phase",
                  "time": "2026-11-30T23:59:59.999999999Z", "data": 5},
  "leap second": {"specversion": "1.0", "id": "7", "source": "/host", "type": "phase",
                  "time": "2016-12-31T23:59:60Z", "data": 5},
  "data 0": {"specversion": "1.0", "id": "7", "source": "/host", "type": "phase",
             "time": "2026-11-30T23:59:59.5Z", "data": 0}
}
JSON
cat >read.py <<'PY'
import json
from cloudevents.core.bindings.http import (
    HTTPMessage, from_structured_event, to_structured_event)
from cloudevents.v1.conversion import to_json
from cloudevents.v1.http import from_json

HEADERS = {"content-type": "application/cloudevents+json"}

def core(body):
    return to_structured_event(from_structured_event(HTTPMessage(headers=HEADERS, body=body))).body

for name, event in json.load(open("events.json")).items():
    for interface, again in (("core", core), ("v1", lambda body: to_json(from_json(body)))):
        try:
            back = json.loads(again(json.dumps(event).encode()))
            print(f"py {interface}, {name}: {back['time']}, data {back.get('data')}")
        except Exception as error:
            print(f"py {interface}, {name}: {type(error).__name__}")
PY
cat >read.cjs <<'JS'
const { CloudEvent, HTTP } = require("cloudevents");
const headers = { "content-type": "application/cloudevents+json" };
for (const [name, event] of Object.entries(require("./events.json"))) {
  try {
    const read = HTTP.toEvent({ headers, body: JSON.stringify(event) });
    const now = Math.abs(new Date(read.time) - Date.now()) < 60e3;
    console.log(`js read, ${name}: ${now ? "the time of reading" : read.time},`,
      `data ${read.data}`);
  } catch (error) {
    console.log(`js read, ${name}: ${error.constructor.name}`);
  }
}
const made = new CloudEvent(require("./events.json")["nine digits"]);
console.log(`js made: time ${made.time}, sent ${JSON.parse(HTTP.structured(made).body).time}`);
const zero = new CloudEvent(require("./events.json")["data 0"]);
console.log(`js made, data 0: sent ${JSON.parse(HTTP.structured(zero).body).data}`);
JS
{
  venv/bin/python -W ignore read.py
  node read.cjs
} >seen

cat >expected <<'TXT'
py core, nine digits: 2026-11-30T23:59:59.999999Z, data 5
py v1, nine digits: 2026-11-30T23:59:59.999999999Z, data 5
py core, leap second: ValueError
py v1, leap second: 2016-12-31T23:59:60Z, data 5
py core, data 0: 2026-11-30T23:59:59.500000Z, data 0
py v1, data 0: 2026-11-30T23:59:59.5Z, data 0
js read, nine digits: 2026-11-30T23:59:59.999Z, data 5
js read, leap second: the time of reading, data 5
js read, data 0: 2026-11-30T23:59:59.500Z, data undefined
js made: time 2026-11-30T23:59:59.999999999Z, sent 2026-11-30T23:59:59.999Z
js made, data 0: sent 0
TXT
if ! diff -u expected seen; then
  echo "changed: an SDK reads or writes the time, data or id of an event in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: five readings of one time, and 0 is no data"
