#!/usr/bin/env bash
# Software:  PyPI arrow 1.4.0, pendulum 3.3.0, isodate 0.7.2, aniso8601 10.0.1, ciso8601 2.4.1,
#            python-dateutil 4.0.0, whenever 0.11.0 and Python's own fromisoformat; npm date-fns
#            4.4.0, luxon 3.7.2 and JavaScript's own Date.
# Input:     2026-11-30T23:59:59 with 4, 7 and 9 digits behind it, the last one nanosecond before
#            December.
# One would guess: a parser keeps what it can and cuts the rest, so November stays November.
# Seen:      from the seventh digit on two are in the next month, each with 100 ns of November left:
#            arrow rounds the seventh digit, and date-fns, which cuts at four digits as all others
#            do, adds up a double. Of the rest one keeps nine, seven keep six, two keep three.
#            Output: "7 digits, arrow: 2026-12-01T00:00:00", "7 digits, date-fns: 2026-12-01T..."
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check arrow==1.4.0 pendulum==3.3.0 \
  isodate==0.7.2 aniso8601==10.0.1 ciso8601==2.4.1 python-dateutil==4.0.0 whenever==0.11.0
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact date-fns@4.4.0 luxon@3.7.2

cat >parse.py <<'PY'
from datetime import datetime
import aniso8601
import arrow
import ciso8601
import dateutil.parser
import isodate
import pendulum
import whenever

readers = {
    "fromisoformat": datetime.fromisoformat,
    "arrow": lambda text: arrow.get(text).datetime,
    "pendulum": pendulum.parse,
    "isodate": isodate.parse_datetime,
    "aniso8601": aniso8601.parse_datetime,
    "ciso8601": ciso8601.parse_datetime,
    "dateutil": dateutil.parser.parse,
    "whenever": whenever.Instant.parse_iso,
}
for fraction in ("9995", "9999999", "999999999"):
    for name, read in readers.items():
        shown = str(read(f"2026-11-30T23:59:59.{fraction}Z")).replace(" ", "T")
        print(f"{len(fraction)} digits, {name}: {shown.removesuffix('+00:00').removesuffix('Z')}")
PY
cat >parse.cjs <<'JS'
const { parseISO } = require("date-fns");
const { DateTime } = require("luxon");
for (const fraction of ["9995", "9999999", "999999999"]) {
  const text = `2026-11-30T23:59:59.${fraction}Z`;
  for (const [name, read] of [
    ["Date", new Date(text)],
    ["date-fns", parseISO(text)],
    ["luxon", DateTime.fromISO(text).toJSDate()],
  ]) {
    console.log(`${fraction.length} digits, ${name}: ${read.toISOString().slice(0, -1)}`);
  }
}
JS
{
  venv/bin/python parse.py
  node parse.cjs
} >seen

cat >expected <<'TXT'
4 digits, fromisoformat: 2026-11-30T23:59:59.999500
4 digits, arrow: 2026-11-30T23:59:59.999500
4 digits, pendulum: 2026-11-30T23:59:59.999500
4 digits, isodate: 2026-11-30T23:59:59.999500
4 digits, aniso8601: 2026-11-30T23:59:59.999500
4 digits, ciso8601: 2026-11-30T23:59:59.999500
4 digits, dateutil: 2026-11-30T23:59:59.999500
4 digits, whenever: 2026-11-30T23:59:59.9995
7 digits, fromisoformat: 2026-11-30T23:59:59.999999
7 digits, arrow: 2026-12-01T00:00:00
7 digits, pendulum: 2026-11-30T23:59:59.999999
7 digits, isodate: 2026-11-30T23:59:59.999999
7 digits, aniso8601: 2026-11-30T23:59:59.999999
7 digits, ciso8601: 2026-11-30T23:59:59.999999
7 digits, dateutil: 2026-11-30T23:59:59.999999
7 digits, whenever: 2026-11-30T23:59:59.9999999
9 digits, fromisoformat: 2026-11-30T23:59:59.999999
9 digits, arrow: 2026-12-01T00:00:00
9 digits, pendulum: 2026-11-30T23:59:59.999999
9 digits, isodate: 2026-11-30T23:59:59.999999
9 digits, aniso8601: 2026-11-30T23:59:59.999999
9 digits, ciso8601: 2026-11-30T23:59:59.999999
9 digits, dateutil: 2026-11-30T23:59:59.999999
9 digits, whenever: 2026-11-30T23:59:59.999999999
4 digits, Date: 2026-11-30T23:59:59.999
4 digits, date-fns: 2026-11-30T23:59:59.999
4 digits, luxon: 2026-11-30T23:59:59.999
7 digits, Date: 2026-11-30T23:59:59.999
7 digits, date-fns: 2026-12-01T00:00:00.000
7 digits, luxon: 2026-11-30T23:59:59.999
9 digits, Date: 2026-11-30T23:59:59.999
9 digits, date-fns: 2026-12-01T00:00:00.000
9 digits, luxon: 2026-11-30T23:59:59.999
TXT
if ! diff -u expected seen; then
  echo "changed: a parser cuts or rounds the digits of a second in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: two parsers put the last nanosecond of November into December"
