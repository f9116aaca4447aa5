#!/usr/bin/env bash
# Software:  npm ms 2.1.3, parse-duration 2.1.9, timestring 7.0.0, enhanced-ms 5.0.0; PyPI
#            pytimeparse 1.1.10, pytimeparse2 1.7.1, durations-nlp 1.0.1, timelength 3.0.4,
#            humanfriendly 10.0; all of which read durations that people write.
# Input:     1M, P1M and 1y, 1:30, 1,5h and -1h, as they stand in rules of retention and in prices.
# One would guess: M is a month and m a minute, or M is refused; P1M is ISO 8601's month or refused;
#            a year has 365 days or 365.25; a minus is kept or refused.
# Seen:      1M is a minute to seven and a month of 30.5 days to two. P1M is a minute to three. A
#            year has 364, 365, 365.25 or 366 days. 1:30 is 90 seconds, 1.03 s, or 0 without an
#            error. 1,5h is fifteen hours to two. An hour less than nothing is an hour to three.
#            Output: "1M: ... durations-nlp 2635200 ... ms 60", "1y: ... humanfriendly 31449600"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pytimeparse==1.1.10 pytimeparse2==1.7.1 \
  durations-nlp==1.0.1 timelength==3.0.4 humanfriendly==10.0
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact ms@2.1.3 parse-duration@2.1.9 \
  timestring@7.0.0 enhanced-ms@5.0.0

cat >read.py <<'PY'
import sys
import durations_nlp
import humanfriendly
import pytimeparse
import pytimeparse2
import timelength

def length(text):
    result = timelength.TimeLength(text).result
    return result.seconds if result.success else None

readers = {
    "pytimeparse": pytimeparse.parse,
    "pytimeparse2": pytimeparse2.parse,
    "durations-nlp": lambda text: durations_nlp.Duration(text).seconds,
    "timelength": length,
    "humanfriendly": humanfriendly.parse_timespan,
}
for text in sys.argv[1:]:
    for name, read in readers.items():
        try:
            seconds = read(text)
        except Exception:
            seconds = None
        print(text, name, "refused" if seconds is None else f"{seconds:.8g}")
PY
cat >read.mjs <<'JS'
import ms from "ms";
import duration from "parse-duration";
import timestring from "timestring";
import { ms as enhanced } from "enhanced-ms";
const readers = {
  ms: (text) => ms(text) / 1000,
  "parse-duration": (text) => duration(text, "s"),
  timestring: (text) => timestring(text),
  "enhanced-ms": (text) => (enhanced(text) ?? NaN) / 1000,
};
for (const text of process.argv.slice(2)) {
  for (const [name, read] of Object.entries(readers)) {
    let seconds;
    try {
      seconds = read(text);
    } catch {
      seconds = NaN;
    }
    const refused = !Number.isFinite(seconds);
    console.log(text, name, refused ? "refused" : Number(seconds.toPrecision(8)));
  }
}
JS
texts=(1M P1M 1y 1:30 1,5h -1h)
{
  venv/bin/python read.py "${texts[@]}"
  node read.mjs "${texts[@]}"
} | awk '{ if (!($1 in said)) order[++n] = $1; said[$1] = said[$1] "\n  " $2 " " $3 }
  END { for (i = 1; i <= n; i++) print order[i] ":" said[order[i]] }' >seen

cat >expected <<'TXT'
1M:
  pytimeparse 60
  pytimeparse2 60
  durations-nlp 2635200
  timelength 2635200
  humanfriendly 60
  ms 60
  parse-duration 60
  timestring 60
  enhanced-ms 60
P1M:
  pytimeparse refused
  pytimeparse2 refused
  durations-nlp refused
  timelength 2635200
  humanfriendly refused
  ms refused
  parse-duration 60
  timestring 60
  enhanced-ms 60
1y:
  pytimeparse refused
  pytimeparse2 31536000
  durations-nlp 31622400
  timelength 31536000
  humanfriendly 31449600
  ms 31557600
  parse-duration 31557600
  timestring 31557600
  enhanced-ms 31536000
1:30:
  pytimeparse 90
  pytimeparse2 90
  durations-nlp 0
  timelength 90
  humanfriendly refused
  ms refused
  parse-duration 1.03
  timestring refused
  enhanced-ms refused
1,5h:
  pytimeparse refused
  pytimeparse2 refused
  durations-nlp refused
  timelength refused
  humanfriendly refused
  ms refused
  parse-duration 54000
  timestring 54000
  enhanced-ms refused
-1h:
  pytimeparse -3600
  pytimeparse2 -3600
  durations-nlp -3600
  timelength 3600
  humanfriendly refused
  ms -3600
  parse-duration -3600
  timestring 3600
  enhanced-ms 3600
TXT
if ! diff -u expected seen; then
  echo "changed: a reader of durations takes a text for another duration" >&2
  exit 1
fi
cat seen
echo "as recorded: 1M is a minute or a month, and a year has 364 to 366 days"
