#!/usr/bin/env bash
# Software:  PyPI hypeman 0.28.0 and npm @onkernel/hypeman 0.28.0, the two clients of one API.
# Input:     creating an instance against a small server in the script that answers 404, 408, 409,
#            429, 500, 501 or 507; a creation that names its idempotency key; an instance that is
#            sent as JSON, and once more as text/plain.
# One would guess: what is no fault of the network is said once; a key that is handed over is sent;
#            and both clients read one answer alike.
# Seen:      a conflict and a 501 are asked three times, a POST as well. Nothing tells the server
#            that it is the same request but a count of retries: no idempotency key is made, and the
#            option idempotencyKey of the JavaScript client is taken and not sent. Under text/plain
#            Python returns an Instance, JavaScript a string. Nine digits of created_at are six in
#            Python.
#            Output: "py 409: sent 3, keys 0", "js with a key: sent 3, keys 0"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check hypeman==0.28.0
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact @onkernel/hypeman@0.28.0

cat >server.cjs <<'JS'
const http = require("http");
const fs = require("fs");
const instance = { id: "vm1", state: "Running", created_at: "2026-11-30T23:59:59.123456789Z" };
let sent = 0;
let keys = 0;
const server = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    const [, what] = request.url.split("/");
    if (what === "counts") {
      response.end(`sent ${sent}, keys ${keys}`);
      sent = keys = 0;
      return;
    }
    sent += 1;
    keys += Object.keys(request.headers).filter((name) => name.includes("idempotency")).length;
    const type = what === "text" ? "text/plain" : "application/json";
    const status = Number(what) || 200;
    response.writeHead(status, { "content-type": type, "retry-after-ms": "1" });
    response.end(JSON.stringify(status === 200 ? instance : { code: "code", message: "message" }));
  });
});
server.listen(0, "127.0.0.1", () => {
  fs.writeFileSync("port.new", String(server.address().port));
  fs.renameSync("port.new", "port");
});
JS
cat >ask.py <<'PY'
import sys
import urllib.request
from hypeman import APIStatusError, Hypeman

base = f"http://127.0.0.1:{sys.argv[1]}"
def counts():
    return urllib.request.urlopen(f"{base}/counts").read().decode()

for status in (404, 408, 409, 429, 500, 501, 507):
    client = Hypeman(api_key="key", base_url=f"{base}/{status}")
    try:
        client.instances.create(image="image", name="vm1")
    except APIStatusError:
        print(f"py {status}: {counts()}")
for kind in ("json", "text"):
    instance = Hypeman(api_key="key", base_url=f"{base}/{kind}").instances.get("vm1")
    print(f"py {kind}: {type(instance).__name__}, created {instance.created_at:%S.%f}")
PY
cat >ask.cjs <<'JS'
const { Hypeman } = require("@onkernel/hypeman");
const base = `http://127.0.0.1:${process.argv[2]}`;
const counts = async () => (await fetch(`${base}/counts`)).text();
const create = async (name, status, options) => {
  const client = new Hypeman({ apiKey: "key", baseURL: `${base}/${status}` });
  await client.instances.create({ image: "image", name: "vm1" }, options).catch(() => {});
  console.log(`js ${name}: ${await counts()}`);
};
(async () => {
  await counts();
  for (const status of [404, 408, 409, 429, 500, 501, 507]) {
    await create(status, status);
  }
  await create("with a key", 409, { idempotencyKey: "vm1-once" });
  for (const kind of ["json", "text"]) {
    const client = new Hypeman({ apiKey: "key", baseURL: `${base}/${kind}` });
    const instance = await client.instances.get("vm1");
    console.log(`js ${kind}: ${typeof instance}, created ${instance.created_at}`);
  }
})();
JS
node server.cjs &
server=$!
for _ in $(seq 100); do
  if [ -e port ]; then break; fi
  sleep 0.1
done
{
  venv/bin/python ask.py "$(cat port)"
  node ask.cjs "$(cat port)"
} >seen

cat >expected <<'TXT'
py 404: sent 1, keys 0
py 408: sent 3, keys 0
py 409: sent 3, keys 0
py 429: sent 3, keys 0
py 500: sent 3, keys 0
py 501: sent 3, keys 0
py 507: sent 3, keys 0
py json: Instance, created 59.123456
py text: Instance, created 59.123456
js 404: sent 1, keys 0
js 408: sent 3, keys 0
js 409: sent 3, keys 0
js 429: sent 3, keys 0
js 500: sent 3, keys 0
js 501: sent 3, keys 0
js 507: sent 3, keys 0
js with a key: sent 3, keys 0
js json: object, created 2026-11-30T23:59:59.123456789Z
js text: string, created undefined
TXT
if ! diff -u expected seen; then
  echo "changed: a client repeats, names or reads its requests in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a conflict is asked three times, and no key is sent"
