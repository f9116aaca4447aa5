// Every method of the JavaScript client of a similar service, unchanged, against the daemon.
//
// Reads BASE_URL, TOKEN and IMAGE (a reference that is to be pulled). Prints a line of JSON for
// each method: its name, and how it ended.

import assert from "node:assert/strict";
import fs from "node:fs";
import os from "node:os";
import path from "node:path";
import Hypeman from "@onkernel/hypeman";
import { cpFromInstance, cpToInstance } from "@onkernel/hypeman/lib/cp";

const { BASE_URL: baseURL, TOKEN: apiKey, IMAGE: image } = process.env;
let requests = 0;
const called = new Set();
const client = new Hypeman({
  baseURL,
  apiKey,
  fetch: (...asked) => {
    // It asks for `data:,` to find out what the platform can send.
    if (String(asked[0]).startsWith(baseURL)) requests += 1;
    return fetch(...asked);
  },
});

const tell = (line) => console.log(JSON.stringify(line));

// The name of a method as the Python client has it.
const named = (name) => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function* methods(resource, prefix) {
  for (const [name, value] of Object.entries(resource)) {
    if (name !== "_client" && value?._client) yield* methods(value, `${prefix}${name}.`);
  }
  for (const name of Object.getOwnPropertyNames(Object.getPrototypeOf(resource))) {
    if (name !== "constructor") yield prefix + name;
  }
}

function* allMethods() {
  for (const [name, value] of Object.entries(client)) {
    if (value?._client) yield* methods(value, `${name}.`);
  }
}

async function call(name, ...given) {
  called.add(name);
  requests = 0;
  const parts = name.split(".");
  const last = parts.pop();
  const resource = parts.reduce((at, part) => at[part], client);
  try {
    let answer = await resource[last](...given);
    if (last === "logs" || last === "events") {
      const lines = [];
      for await (const line of answer) lines.push(line);
      answer = lines;
    }
    tell({ method: named(name), how: "works", requests });
    return answer;
  } catch (error) {
    if (!(error instanceof Hypeman.APIError) || !error.status) throw error;
    const { code, message } = error.error;
    const retry = error.headers.get("x-should-retry");
    tell({ method: named(name), how: String(error.status), code, message, requests, retry });
    return null;
  }
}

await call("health.check");
assert((await call("capabilities.get")).runtimes.length >= 2);
assert((await call("resources.get")).memory.capacity > 0);

assert.equal((await call("images.create", { name: image })).name, image);
while ((await client.images.get(image)).status !== "ready") {
  assert.notEqual((await client.images.get(image)).status, "failed");
}
const { digest } = await call("images.get", image);
assert((await call("images.list")).some((one) => one.name === image));
const target = image.replace(/:[^:]*$/, ":tagged");
assert.equal((await call("images.tag", image, { target })).digest, digest);
await call("images.delete", target);

const { id } = await call("instances.create", {
  name: "web",
  image,
  hypervisor: "qemu-microvm",
  env: { NAME: "value" },
  overlay_size: "64MB",
  network: { enabled: false },
});
const reached = { state: "Running", timeout: "50s" };
assert.equal((await call("instances.wait", id, reached)).state, "Running");
assert.equal((await call("instances.get", id)).env.NAME, "value");
assert.equal((await call("instances.list")).length, 1);
assert((await call("instances.stats", id)).cpu_seconds > 0);
assert((await call("instances.stat", id, { path: "/bin/sh" })).exists);
assert((await call("instances.logs", id, { source: "hypeman" })).length > 0);

const folder = fs.mkdtempSync(path.join(os.tmpdir(), "copied-"));
const up = path.join(folder, "up");
fs.writeFileSync(up, "content");
const way = { baseURL, apiKey };
await cpToInstance(way, { instanceId: id, srcPath: up, dstPath: "/srv/up" });
tell({ method: "lib.cp_to_instance", how: "works" });
const down = { instanceId: id, srcPath: "/srv/up", dstPath: path.join(folder, "down") };
await cpFromInstance(way, down);
assert.equal(fs.readFileSync(path.join(folder, "down", "up"), "utf8"), "content");
tell({ method: "lib.cp_from_instance", how: "works" });
fs.rmSync(folder, { recursive: true });

const auto = { auto_standby: { enabled: true, idle_timeout: "10m" } };
assert((await call("instances.update", id, auto)).auto_standby.enabled);
assert((await call("instances.autoStandby.status", id)).configured);
await call("instances.autoStandby.hold", id);
const schedule = { interval: "1h", retention: { max_count: 3 } };
assert((await call("instances.snapshotSchedule.update", id, schedule)).next_run_at);
await call("instances.snapshotSchedule.get", id);
await call("instances.snapshotSchedule.delete", id);

const kept = await call("instances.snapshots.create", id, { kind: "Standby" });
assert.equal((await call("snapshots.list"))[0].id, kept.id);
await call("snapshots.get", kept.id);
const state = "Stopped";
const fork = await call("snapshots.fork", kept.id, { name: "fork", target_state: state });
await client.instances.delete(fork.id);
assert.equal((await call("instances.standby", id, {})).state, "Standby");
await call("instances.snapshots.restore", kept.id, { id, target_state: "Standby" });
await call("snapshots.delete", kept.id);
await call("instances.restore", id);
await client.instances.wait(id, reached);
const other = { name: "other", from_running: true, target_state: state };
await client.instances.delete((await call("instances.fork", id, other)).id);

for (const kind of ["builders", "builds", "devices", "ingresses", "pushes", "volumes"]) {
  assert.deepEqual(await call(`${kind}.list`), []);
}
assert.deepEqual(await call("devices.listAvailable"), []);
const rule = { match: { hostname: "x" }, target: { instance: "web", port: 80 } };
const file = () => new File(["x"], "x");
await call("builders.create", { name: "x" });
for (const name of ["get", "prune", "delete"]) await call(`builders.${name}`, "x");
await call("builds.create", { source: file() });
for (const name of ["get", "events", "cancel"]) await call(`builds.${name}`, "x");
await call("devices.create", { pci_address: "0000:00:00.0" });
for (const name of ["retrieve", "delete"]) await call(`devices.${name}`, "x");
await call("ingresses.create", { name: "x", rules: [rule] });
for (const name of ["get", "delete"]) await call(`ingresses.${name}`, "x");
await call("pushes.create", { image, target: "registry.example/x:1" });
await call("pushes.get", "x");
await call("volumes.create", { name: "x", size_gb: 1 });
await call("volumes.createFromArchive", file(), { name: "x", size_gb: 1 });
for (const name of ["get", "delete"]) await call(`volumes.${name}`, "x");
await call("instances.volumes.attach", "v", { id: "web", mount_path: "/mnt" });
await call("instances.volumes.detach", "v", { id: "web" });
await call("resources.reclaimMemory", { reclaim_bytes: 1 });

assert.equal((await call("instances.stop", id)).state, "Stopped");
await call("instances.start", id, {});
await call("instances.delete", id, { graceful_shutdown: false });
const missing = [...allMethods()].filter((name) => !called.has(name));
tell({ method: "all", how: "done", called: called.size, missing });
