#!/usr/bin/env bash
# Software:  PyPI obstore 0.12.1 (the object_store that many engines use) and opendal 0.47.12, each
#            with its store in memory and on the local disk.
# Input:     keys of a journal by day: journal/2026-11-29, journal/2026-11-30, journal/2026-12-01
#            and journal-old/2026-11-30, listed by prefixes, as S3 lists them.
# One would guess: a prefix is the beginning of a key, as in S3's API, on which both are modelled.
# Seen:      obstore's prefix is whole folders: journal/2026-11 lists nothing, neither does a key's
#            own name, and nothing is raised, so the month seems empty and an archived object seems
#            to be missing; journal leaves journal-old out. opendal's is a beginning of text, and
#            journal without a slash lists the two folders themselves.
#            Output: "obstore memory journal/2026-11: 0", "opendal memory journal/2026-11: 2 ..."
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check obstore==0.12.1 opendal==0.47.12

cat >list.py <<'PY'
import os
import obstore
import opendal
from obstore.store import LocalStore, MemoryStore

KEYS = ("journal/2026-11-29", "journal/2026-11-30", "journal/2026-12-01",
        "journal-old/2026-11-30")
PREFIXES = ("journal/", "journal", "jour", "journal/2026-11", "journal/2026-11-30")

def say(name, prefix, keys):
    print(f"{name} {prefix}: {len(keys)}" + (f" ({', '.join(sorted(keys))})" if keys else ""))

os.mkdir("obstore")
for name, store in (("memory", MemoryStore()), ("disk", LocalStore(os.path.abspath("obstore")))):
    for key in KEYS:
        obstore.put(store, key, b"x")
    for prefix in PREFIXES:
        keys = [entry["path"] for page in obstore.list(store, prefix=prefix) for entry in page]
        say(f"obstore {name}", prefix, keys)
for name, store in (("memory", opendal.Operator("memory")),
                    ("disk", opendal.Operator("fs", root=os.path.abspath("opendal")))):
    for key in KEYS:
        store.write(key, b"x")
    for prefix in PREFIXES:
        # The disk lists the folder itself too.
        keys = [entry.path for entry in store.list(prefix) if entry.path != "journal/"
                or prefix != "journal/"]
        say(f"opendal {name}", prefix, keys)
PY
venv/bin/python list.py >seen

cat >expected <<'TXT'
obstore memory journal/: 3 (journal/2026-11-29, journal/2026-11-30, journal/2026-12-01)
obstore memory journal: 3 (journal/2026-11-29, journal/2026-11-30, journal/2026-12-01)
obstore memory jour: 0
obstore memory journal/2026-11: 0
obstore memory journal/2026-11-30: 0
obstore disk journal/: 3 (journal/2026-11-29, journal/2026-11-30, journal/2026-12-01)
obstore disk journal: 3 (journal/2026-11-29, journal/2026-11-30, journal/2026-12-01)
obstore disk jour: 0
obstore disk journal/2026-11: 0
obstore disk journal/2026-11-30: 0
opendal memory journal/: 3 (journal/2026-11-29, journal/2026-11-30, journal/2026-12-01)
opendal memory journal: 2 (journal-old/, journal/)
opendal memory jour: 2 (journal-old/, journal/)
opendal memory journal/2026-11: 2 (journal/2026-11-29, journal/2026-11-30)
opendal memory journal/2026-11-30: 1 (journal/2026-11-30)
opendal disk journal/: 3 (journal/2026-11-29, journal/2026-11-30, journal/2026-12-01)
opendal disk journal: 2 (journal-old/, journal/)
opendal disk jour: 2 (journal-old/, journal/)
opendal disk journal/2026-11: 2 (journal/2026-11-29, journal/2026-11-30)
opendal disk journal/2026-11-30: 1 (journal/2026-11-30)
TXT
if ! diff -u expected seen; then
  echo "changed: a store lists its keys by prefix in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a prefix that ends within a name finds nothing"
