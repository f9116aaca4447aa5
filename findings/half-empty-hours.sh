#!/usr/bin/env bash
# Software:  PyPI whisper 1.1.10, the files of Graphite.
# Input:     a machine that runs the first twenty minutes of an hour, 60 s written for each minute,
#            into a file with minutes and hours that sums up; two values within one minute.
# One would guess: the hour has 1200 s in either archive; values of one minute are added.
# Seen:      the minutes have 1200 s and the hour is empty, because less than half of its minutes
#            have a value (xFilesFactor, 0.5 unless one says 0). The second value of a minute takes
#            the place of the first, also where the file sums up.
#            Output: "by the hour: 0.0 s", "by the hour, xFilesFactor 0: 1200.0 s"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check whisper==1.1.10

cat >write.py <<'PY'
import time

import whisper

now = int(time.time())
hour = now - now % 3600 - 3600


def total(points, resolution_s, **kind):
    name = f"{len(points)}-{resolution_s}-{len(kind)}.wsp"
    archives = [(60, 180), (3600, 48)]
    whisper.create(name, archives, aggregationMethod="sum", **kind)
    for at, value in points:
        whisper.update(name, value, at)
    # What lies further back than the minutes go is answered by the hours.
    first = hour - 1 if resolution_s == 60 else hour - 12 * 3600
    _, values = whisper.fetch(name, first, hour + 3599)
    return sum(value for value in values if value is not None) + 0.0


minutes = [(hour + 60 * minute, 60.0) for minute in range(20)]
print(f"by the minute: {total(minutes, 60)} s")
print(f"by the hour: {total(minutes, 3600)} s")
print(f"by the hour, xFilesFactor 0: {total(minutes, 3600, xFilesFactor=0)} s")
print(f"10 and 20 in one minute: {total([(hour, 10.0), (hour + 30, 20.0)], 60)}")
PY
venv/bin/python write.py >seen

cat >expected <<'TXT'
by the minute: 1200.0 s
by the hour: 0.0 s
by the hour, xFilesFactor 0: 1200.0 s
10 and 20 in one minute: 20.0
TXT
if ! diff -u expected seen; then
  echo "changed: whisper sums up in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: twenty minutes of an hour are nothing"
