#!/usr/bin/env bash
# Software:  PyPI uuid7 0.1.0, uuid6 2025.0.1 and uuid-utils 1.2.0, all of which make version 7.
# Input:     one new identifier of each, made one after another; its instant read as RFC 9562 says,
#            from the first 48 bits.
# One would guess: version 7 is one layout, so identifiers of three makers sort by time and tell it.
# Seen:      the package that has the name keeps a layout of an earlier draft: whole seconds in the
#            first 36 bits. Read by the standard, one made in November 2026 is of the year 2203, and
#            its seconds count as 4.096. Version and variant say 7 and RFC 4122 all the same. Among
#            identifiers of the other two its own sort last, though it was made first.
#            Output: "uuid7: version 7, ... a century or more ahead, a second counts as 4 s"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  uuid7==0.1.0 uuid6==2025.0.1 uuid-utils==1.2.0

cat >instants.py <<'PY'
import time
import uuid
import uuid6
import uuid_extensions
import uuid_utils

YEAR = 365.2425 * 86400
makers = {
    "uuid7": uuid_extensions.uuid7,
    "uuid6": uuid6.uuid7,
    "uuid-utils": uuid_utils.uuid7,
}

def made(make):
    return uuid.UUID(str(make()))

def seconds(identifier):
    return (identifier.int >> 80) / 1000

order = []
for name, make in makers.items():
    now = time.time()
    first = made(make)
    started = time.monotonic()
    time.sleep(0.5)
    second = made(make)
    speed = (seconds(second) - seconds(first)) / (time.monotonic() - started)
    ahead = (seconds(first) - now) / YEAR
    print(f"{name}: version {first.version}, variant {first.variant},",
          "a century or more ahead," if ahead > 100 else f"ahead by {abs(round(ahead, 3))} years,",
          f"a second counts as {round(speed)} s")
    order.append((first, name))
    time.sleep(0.01)
print("made:  ", *(name for _, name in order))
print("sorted:", *(name for _, name in sorted(order)))
PY
venv/bin/python instants.py >seen

cat >expected <<'TXT'
uuid7: version 7, variant specified in RFC 4122, a century or more ahead, a second counts as 4 s
uuid6: version 7, variant specified in RFC 4122, ahead by 0.0 years, a second counts as 1 s
uuid-utils: version 7, variant specified in RFC 4122, ahead by 0.0 years, a second counts as 1 s
made:   uuid7 uuid6 uuid-utils
sorted: uuid6 uuid-utils uuid7
TXT
if ! diff -u expected seen; then
  echo "changed: a maker of version 7 uses another layout" >&2
  exit 1
fi
cat seen
echo "as recorded: one version number, two layouts"
