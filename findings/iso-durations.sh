#!/usr/bin/env bash
# Software:  PyPI isodate 0.7.2, aniso8601 10.0.1; npm iso8601-duration 2.1.4, tinyduration 3.4.1:
#            readers of durations of ISO 8601.
# Input:     a month, a year, half a month, an hour backwards, an hour less half an hour.
# One would guess: a reader that takes a month answers its length, or none; a sign counts or is
#            refused.
# Seen:      isodate's month has total_seconds() of 0, its year too, and half a month is no month;
#            aniso8601's month has 30 days. iso8601-duration drops a sign in front and a part with a
#            sign behind: -PT1H is 3600 s, and PT1H-30M as well. Nothing is raised.
#            Output: "P1M: isodate 0.0 s", "-PT1H: iso8601-duration 3600 s"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check isodate==0.7.2 aniso8601==10.0.1
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact iso8601-duration@2.1.4 tinyduration@3.4.1

cat >read.py <<'PY'
import aniso8601
import isodate

for text in ["P1M", "P1Y", "P0.5M", "P1M2D"]:
    for name, parse in [("isodate", isodate.parse_duration), ("aniso8601", aniso8601.parse_duration)]:
        print(f"{text}: {name} {parse(text).total_seconds()} s")
PY
cat >read.mjs <<'JS'
import { parse, toSeconds } from 'iso8601-duration';
import { parse as tiny } from 'tinyduration';
for (const text of ['-PT1H', 'PT1H-30M']) {
  console.log(`${text}: iso8601-duration ${toSeconds(parse(text))} s`);
  console.log(`${text}: tinyduration ${JSON.stringify(tiny(text))}`);
}
JS
{
  venv/bin/python read.py
  node read.mjs
} >seen

cat >expected <<'TXT'
P1M: isodate 0.0 s
P1M: aniso8601 2592000.0 s
P1Y: isodate 0.0 s
P1Y: aniso8601 31536000.0 s
P0.5M: isodate 0.0 s
P0.5M: aniso8601 1296000.0 s
P1M2D: isodate 172800.0 s
P1M2D: aniso8601 2764800.0 s
-PT1H: iso8601-duration 3600 s
-PT1H: tinyduration {"hours":1,"negative":true}
PT1H-30M: iso8601-duration 3600 s
PT1H-30M: tinyduration {"hours":1,"minutes":-30}
TXT
if ! diff -u expected seen; then
  echo "changed: a reader of durations takes months or signs in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a month is 0 s or 30 days, and an hour backwards is an hour"
