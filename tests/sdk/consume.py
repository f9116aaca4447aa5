"""The calls of a program that runs commands in machines, from create to delete.

Reads BASE_URL, TOKEN and IMAGE, which nobody has pulled yet.
"""

import os
import pathlib
import tempfile
import time

from hypeman import Hypeman
from hypeman.lib import cp_from_instance, cp_to_instance, exec

client = Hypeman(base_url=os.environ["BASE_URL"], api_key=os.environ["TOKEN"])


def run(id, *command):
    done = exec(client, id, command, timeout=60, wait_for_agent=60)
    assert done.exit_code == 0, done
    return done.output.decode()


web = client.instances.create(
    name="web",
    image=os.environ["IMAGE"],
    cmd=["sh", "-c", "echo $NAME >/srv/name; exec sleep 600"],
    env={"NAME": "consumer"},
    hypervisor="qemu-microvm",
    size="192MB",
    overlay_size="64MB",
    network={"enabled": False},
)
waited = client.instances.wait(web.id, state="Running", api_timeout="50s")
assert waited.state == "Running", waited
run(web.id, "sh", "-c", "until [ -s /srv/name ]; do sleep 0.1; done")
assert run(web.id, "cat", "/srv/name") == "consumer\n"
with tempfile.TemporaryDirectory() as folder:
    here = pathlib.Path(folder)
    (here / "input").write_text("4711")
    cp_to_instance(client, web.id, here / "input", "/srv/input")
    run(web.id, "sh", "-c", "cat /srv/name /srv/input >/srv/output")
    cp_from_instance(client, web.id, "/srv/output", here / "out")
    assert (here / "out" / "output").read_text() == "consumer\n4711"
stats = client.instances.stats(web.id)
assert stats.cpu_seconds > 0 and stats.memory_rss_bytes > 0, stats
kept = client.instances.snapshots.create(web.id, kind="Standby", name="ready")
run(web.id, "touch", "/srv/later")
fork = client.snapshots.fork(kept.id, name="fork", target_state="Running")
assert client.instances.wait(fork.id, state="Running", api_timeout="50s").state == "Running"
assert run(fork.id, "cat", "/srv/output") == "consumer\n4711"
assert exec(client, fork.id, ["ls", "/srv/later"], wait_for_agent=60).exit_code != 0
# The fork's clock is the host's, although its memory is older.
assert abs(int(run(fork.id, "busybox", "date", "+%s")) - time.time()) < 5
for instance in (fork, web):
    client.instances.delete(instance.id)
assert client.instances.list() == []
client.images.delete(os.environ["IMAGE"])
