#!/usr/bin/env bash
# Software:  PyPI hypeman 0.28.0 and npm @onkernel/hypeman 0.28.0, the two clients of one API.
# Input:     a wait of two minutes for a state, against a small server in the script; a build of one
#            byte, with a fetch of the caller's that notes what it is asked for.
# One would guess: instances.wait(timeout="2m") asks the server for ?timeout=2m in both, and a fetch
#            that is handed over is asked for what the server answers.
# Seen:      in Python `timeout` is that of the connection: the text reaches the socket, nothing is
#            sent, and a TypeError ends as APIConnectionError after three tries. The server's is
#            api_timeout. JavaScript sends timeout. Its first multipart body fetches "data:," by
#            the caller's fetch beside the request.
#            Output: "py timeout: APIConnectionError, sent 0; py api_timeout: sent timeout=2m; js
#            timeout: sent timeout=2m; js build: data:, and POST /builds"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check hypeman==0.28.0
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --ignore-scripts --save-exact @onkernel/hypeman@0.28.0

cat >server.cjs <<'JS'
const http = require("http");
const fs = require("fs");
const sent = [];
const server = http.createServer((request, response) => {
  request.resume();
  request.on("end", () => {
    if (request.url === "/sent") return response.end(sent.splice(0).join(" "));
    sent.push(new URL(request.url, "http://x").searchParams.toString().split("&").at(-1));
    response.setHeader("content-type", "application/json");
    response.end('{"state":"Running","timed_out":false}');
  });
});
server.listen(0, "127.0.0.1", () => fs.writeFileSync("port", String(server.address().port)));
JS
node server.cjs &
server=$!
until [ -s port ]; do sleep 0.1; done
export URL="http://127.0.0.1:$(cat port)"

cat >asked.py <<'PY'
import os
import urllib.request
import hypeman

client = hypeman.Hypeman(base_url=os.environ["URL"], api_key="x")
sent = lambda: urllib.request.urlopen(os.environ["URL"] + "/sent").read().decode()
try:
    client.instances.wait("vm1", state="Running", timeout="2m")
except hypeman.APIError as error:
    told = type(error).__name__
print(f"py timeout: {told}, sent {len(sent().split())}", end="; ")
client.instances.wait("vm1", state="Running", api_timeout="2m")
print(f"py api_timeout: sent {sent()}", end="; ")
PY
cat >asked.mjs <<'JS'
import Hypeman from "@onkernel/hypeman";
const baseURL = process.env.URL;
const asked = [];
const client = new Hypeman({
  baseURL,
  apiKey: "x",
  fetch: (url, how) => {
    asked.push(String(url).replace(baseURL, `${how?.method ?? "GET"} `).replace("post", "POST"));
    return fetch(url, how);
  },
});
await client.instances.wait("vm1", { state: "Running", timeout: "2m" });
const sent = await (await fetch(`${baseURL}/sent`)).text();
asked.length = 0;
await client.builds.create({ source: new File(["x"], "x") });
console.log(`js timeout: sent ${sent}; js build: ${asked.join(" and ")}`);
JS
seen=$(venv/bin/python asked.py && node asked.mjs)
expected="py timeout: APIConnectionError, sent 0; py api_timeout: sent timeout=2m; \
js timeout: sent timeout=2m; js build: data:, and POST /builds"
echo "$seen"
[ "$seen" = "$expected" ] || { echo "expected: $expected" >&2; exit 1; }
