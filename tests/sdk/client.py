"""Every method of the Python client of a similar service, unchanged, against the daemon.

Reads BASE_URL, TOKEN and IMAGE (a reference that is to be pulled). Prints a line of JSON for each
method: its name, and how it ended. Answers are validated against the client's own models.
"""

import io
import json
import os
import pathlib
import tempfile

import hypeman
from hypeman._resource import SyncAPIResource
from hypeman.lib import cp_from_instance, cp_to_instance, exec

IMAGE = os.environ["IMAGE"]
FORK = "Stopped"
requests = 0
called = set()


def count(_request):
    global requests
    requests += 1


client = hypeman.Hypeman(
    base_url=os.environ["BASE_URL"],
    api_key=os.environ["TOKEN"],
    http_client=hypeman.DefaultHttpxClient(event_hooks={"request": [count]}),
    _strict_response_validation=True,
)


def methods(resource, prefix):
    """Names of all methods of a resource and of those below it."""
    for name in sorted(dir(type(resource))):
        if name.startswith("_") or name.startswith("with_"):
            continue
        value = getattr(resource, name)
        if isinstance(value, SyncAPIResource):
            yield from methods(value, f"{prefix}{name}.")
        elif callable(value):
            yield prefix + name


def all_methods():
    names = [name for name in sorted(dir(type(client))) if not name.startswith(("_", "with_"))]
    for name in names:
        value = getattr(client, name, None)
        if isinstance(value, SyncAPIResource):
            yield from methods(value, f"{name}.")


def tell(name, how, **more):
    print(json.dumps({"method": name, "how": how, **more}), flush=True)


def call(name, /, *arguments, **options):
    """Calls a method, tells how it ended, and returns its answer."""
    global requests
    called.add(name)
    requests = 0
    method = client
    for part in name.split("."):
        method = getattr(method, part)
    try:
        answer = method(*arguments, **options)
        if name.endswith(("logs", "events")):
            answer = list(answer)
    except hypeman.APIStatusError as error:
        body = error.response.json()
        tell(
            name,
            str(error.status_code),
            code=body["code"],
            message=body["message"],
            requests=requests,
            retry=error.response.headers.get("x-should-retry"),
        )
        return None
    tell(name, "works", requests=requests)
    return answer


def ready(name):
    while (image := client.images.get(name)).status not in ("ready", "failed"):
        pass
    assert image.status == "ready", image.error
    return image


def images():
    image = call("images.create", name=IMAGE, tags={"team": "blue"})
    assert image.name == IMAGE and image.digest.startswith("sha256:"), image
    image = ready(IMAGE)
    assert (image.platform, image.cmd, image.size_bytes > 0) == ("linux/amd64", ["sleep", "600"], True)
    assert image.env["GREETING"] == "inside", image
    call("images.get", IMAGE)
    assert [one.name for one in call("images.list", tags={"team": "blue"})] == [IMAGE]
    tag = IMAGE.rsplit(":", 1)[0] + ":tagged"
    assert call("images.tag", IMAGE, target=tag).digest == image.digest
    call("images.delete", tag)


def machine():
    new = {
        "name": "web",
        "image": IMAGE,
        "hypervisor": "qemu-microvm",
        "env": {"NAME": "value"},
        "overlay_size": "64MB",
        "size": "192MB",
        "vcpus": 1,
        "platform": "linux/amd64",
        "skip_kernel_headers": True,
        "tags": {"team": "blue"},
        "ttl": "0s",
        "network": {"enabled": False},
        "snapshot_policy": {"compression": {"enabled": False}},
    }
    instance = call("instances.create", **new)
    assert (instance.image, instance.env, instance.overlay_size) == (IMAGE, {"NAME": "value"}, "64MB")
    assert instance.health_status.status == "disabled" and instance.expires_at is None, instance
    waited = call("instances.wait", instance.id, state="Running", api_timeout="2m")
    assert waited.state == "Running" and not waited.timed_out, waited
    assert call("instances.get", instance.id).state == "Running"
    assert [one.id for one in call("instances.list", tags={"team": "blue"})] == [instance.id]
    stats = call("instances.stats", instance.id)
    assert stats.cpu_seconds > 0 and stats.memory_utilization_ratio > 0, stats
    assert call("instances.stat", instance.id, path="/bin/sh").exists
    assert call("instances.logs", instance.id, source="app", tail=5)
    assert call("instances.logs", instance.id, source="vmm") is not None
    facts = [json.loads(line) for line in call("instances.logs", instance.id, source="hypeman")]
    assert "created" in [fact.get("phase") for fact in facts], facts
    return instance


def sessions(instance):
    done = exec(client, instance.id, ["sh", "-c", "echo $GREETING $NAME; exit 3"], wait_for_agent=30)
    assert (done.output, done.exit_code) == (b"inside value\n", 3), done
    tell("lib.exec", "works")
    with tempfile.TemporaryDirectory() as folder:
        here = pathlib.Path(folder)
        (here / "up").mkdir()
        (here / "up" / "file").write_bytes(b"content")
        cp_to_instance(client, instance.id, here / "up", "/srv/up")
        tell("lib.cp_to_instance", "works")
        cp_from_instance(client, instance.id, "/srv/up", here / "down")
        found = [path for path in (here / "down").rglob("file")]
        assert [path.read_bytes() for path in found] == [b"content"], found
        tell("lib.cp_from_instance", "works")


def settings(instance):
    auto = {"enabled": True, "idle_timeout": "10m"}
    updated = call("instances.update", instance.id, auto_standby=auto, ttl="1h")
    assert updated.auto_standby.idle_timeout == "10m" and updated.auto_standby.enabled, updated
    assert updated.expires_at is not None
    status = call("instances.auto_standby.status", instance.id)
    assert status.configured and status.supported, status
    assert call("instances.auto_standby.hold", instance.id).enabled
    schedule = call(
        "instances.snapshot_schedule.update",
        instance.id,
        interval="1h",
        retention={"max_count": 3},
        metadata={"by": "schedule"},
    )
    assert schedule.metadata == {"by": "schedule"}, schedule
    assert call("instances.snapshot_schedule.get", instance.id).retention.max_count == 3
    call("instances.snapshot_schedule.delete", instance.id)


def snapshots(instance):
    kept = call("instances.snapshots.create", instance.id, kind="Standby", name="one")
    assert kept.id and kept.compression_state == "none", kept
    listed = call("snapshots.list", kind="Standby", source_instance_id=instance.id)
    assert [one.id for one in listed] == [kept.id]
    assert call("snapshots.get", kept.id).name == "one"
    fork = call("snapshots.fork", kept.id, name="fork", target_state=FORK)
    assert fork.state == FORK, fork
    client.instances.delete(fork.id)
    assert call("instances.standby", instance.id).state == "Standby"
    restored = call("instances.snapshots.restore", kept.id, id=instance.id, target_state="Standby")
    assert restored.state == "Standby", restored
    call("snapshots.delete", kept.id)
    assert call("instances.restore", instance.id).state in ("Running", "Initializing")
    client.instances.wait(instance.id, state="Running", api_timeout="50s")
    other = call("instances.fork", instance.id, name="other", from_running=True, target_state=FORK)
    assert other.state == FORK, other
    client.instances.delete(other.id)


def end(instance):
    assert call("instances.stop", instance.id).state == "Stopped"
    started = call("instances.start", instance.id, cmd=["sh", "-c", "exit 7"])
    assert started.state in ("Initializing", "Running", "Created", "Stopped"), started
    waited = client.instances.wait(instance.id, state="Stopped", api_timeout="50s")
    assert waited.state == "Stopped", waited
    assert client.instances.get(instance.id).exit_code == 7
    call("instances.delete", instance.id, graceful_shutdown=False)


def refusals():
    """What the daemon does not do: lists are empty, the rest is refused."""
    for kind in ("builders", "builds", "devices", "ingresses", "pushes", "volumes"):
        assert call(f"{kind}.list") == [], kind
    assert call("devices.list_available") == []
    rule = {"match": {"hostname": "x"}, "target": {"instance": "web", "port": 80}}
    call("builders.create", name="x")
    call("builders.get", "x")
    call("builders.prune", "x")
    call("builders.delete", "x")
    call("builds.create", source=io.BytesIO(b"x"))
    call("builds.get", "x")
    call("builds.events", "x")
    call("builds.cancel", "x")
    call("devices.create", pci_address="0000:00:00.0")
    call("devices.retrieve", "x")
    call("devices.delete", "x")
    call("ingresses.create", name="x", rules=[rule])
    call("ingresses.get", "x")
    call("ingresses.delete", "x")
    call("pushes.create", image=IMAGE, target="registry.example/x:1")
    call("pushes.get", "x")
    call("volumes.create", name="x", size_gb=1)
    call("volumes.create_from_archive", b"x", name="x", size_gb=1)
    call("volumes.get", "x")
    call("volumes.delete", "x")
    call("instances.volumes.attach", "v", id="web", mount_path="/mnt")
    call("instances.volumes.detach", "v", id="web")
    call("resources.reclaim_memory", reclaim_bytes=1)


def host():
    call("health.check")
    capabilities = call("capabilities.get")
    assert {"qemu", "qemu-microvm"} <= {one.name for one in capabilities.runtimes}, capabilities
    resources = call("resources.get")
    assert resources.cpu.capacity > 0 and resources.memory.capacity > 0, resources


host()
images()
instance = machine()
sessions(instance)
settings(instance)
snapshots(instance)
refusals()
end(instance)
missing = sorted(set(all_methods()) - called)
tell("all", "done", called=len(called), missing=missing)
