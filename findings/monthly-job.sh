#!/usr/bin/env bash
# Software:  PyPI croniter 7.0.0 and cronsim 2.8 (with tzdata 2026.6), npm cron-parser 5.10.6 and
#            croner 11.0.1, systemd-analyze of systemd 252 (Debian 12).
# Input:     "at 00:00 on the first of each month" and "at 00:00 each day" in Havana around
#            1 November 2020, whose midnight came twice; the latter in Cairo around 26 April 2024,
#            which had no midnight. The instants are UTC.
# One would guess: five schedulers run a job for each month once, and a job for each day each day.
# Seen:      croniter closes November twice, at 04:00 and at 05:00. cron-parser takes the first of
#            the two midnights for the monthly job and the second for the daily one, so the day
#            begins an hour after its month. In Cairo systemd leaves 26 April out: a daily timer is
#            silent for 47 hours; the four others run at the first instant of that day.
#            Output: "Havana monthly croniter: 10-01T04:00 11-01T04:00 11-01T05:00 12-01T05:00"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  croniter==7.0.0 cronsim==2.8 tzdata==2026.6
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact cron-parser@5.10.6 croner@11.0.1
apt-get download -qq systemd libsystemd-shared >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" systemd
done

cat >times.py <<'PY'
from datetime import datetime, timezone
from itertools import islice
from zoneinfo import ZoneInfo
from croniter import croniter
from cronsim import CronSim

def shown(times):
    return " ".join(f"{time.astimezone(timezone.utc):%m-%dT%H:%M}" for time in islice(times, 4))

for place, zone, start, when in (
    ("Havana monthly", "America/Havana", datetime(2020, 9, 15), "0 0 1 * *"),
    ("Havana daily", "America/Havana", datetime(2020, 10, 30, 12), "0 0 * * *"),
    ("Cairo daily", "Africa/Cairo", datetime(2024, 4, 24, 12), "0 0 * * *"),
):
    start = start.replace(tzinfo=ZoneInfo(zone))
    print(f"{place} croniter:", shown(croniter(when, start, ret_type=datetime)))
    print(f"{place} cronsim:", shown(CronSim(when, start)))
PY
cat >times.cjs <<'JS'
const { CronExpressionParser } = require("cron-parser");
const { Cron } = require("croner");
const shown = (dates) => dates.map((date) => date.toISOString().slice(5, 16)).join(" ");
for (const [place, zone, start, when] of [
  ["Havana monthly", "America/Havana", "2020-09-15T04:00:00Z", "0 0 1 * *"],
  ["Havana daily", "America/Havana", "2020-10-30T16:00:00Z", "0 0 * * *"],
  ["Cairo daily", "Africa/Cairo", "2024-04-24T10:00:00Z", "0 0 * * *"],
]) {
  const from = new Date(start);
  const parsed = CronExpressionParser.parse(when, { currentDate: from, tz: zone });
  console.log(`${place} cron-parser:`, shown([1, 2, 3, 4].map(() => parsed.next().toDate())));
  console.log(`${place} croner:`, shown(new Cron(when, { timezone: zone }).nextRuns(4, from)));
}
JS
line='s/^ *(Next elapse|Iter\. #.): [A-Z][a-z]+ [0-9]{4}-([-0-9]+) ([0-9]+:[0-9]+):.*UTC$/\2T\3/p'
elapses() {
  LD_LIBRARY_PATH=$(dirname "$(find systemd -name 'libsystemd-shared-*.so')") TZ=UTC LC_ALL=C \
    systemd/usr/bin/systemd-analyze calendar --iterations=4 --base-time="$2" "$3" |
    sed -nE "$line" |
    xargs echo "$1 systemd:"
}
{
  PYTHONTZPATH="" venv/bin/python times.py
  node times.cjs
  elapses "Havana monthly" "2020-09-15 04:00:00 UTC" "*-*-01 00:00:00 America/Havana"
  elapses "Havana daily" "2020-10-30 16:00:00 UTC" "*-*-* 00:00:00 America/Havana"
  elapses "Cairo daily" "2024-04-24 10:00:00 UTC" "*-*-* 00:00:00 Africa/Cairo"
} | sort -r >seen

cat >expected <<'TXT'
Havana monthly systemd: 10-01T04:00 11-01T04:00 12-01T05:00 01-01T05:00
Havana monthly cronsim: 10-01T04:00 11-01T04:00 12-01T05:00 01-01T05:00
Havana monthly croniter: 10-01T04:00 11-01T04:00 11-01T05:00 12-01T05:00
Havana monthly croner: 10-01T04:00 11-01T04:00 12-01T05:00 01-01T05:00
Havana monthly cron-parser: 10-01T04:00 11-01T04:00 12-01T05:00 01-01T05:00
Havana daily systemd: 10-31T04:00 11-01T04:00 11-02T05:00 11-03T05:00
Havana daily cronsim: 10-31T04:00 11-01T04:00 11-02T05:00 11-03T05:00
Havana daily croniter: 10-31T04:00 11-01T04:00 11-01T05:00 11-02T05:00
Havana daily croner: 10-31T04:00 11-01T04:00 11-02T05:00 11-03T05:00
Havana daily cron-parser: 10-31T04:00 11-01T05:00 11-02T05:00 11-03T05:00
Cairo daily systemd: 04-24T22:00 04-26T21:00 04-27T21:00 04-28T21:00
Cairo daily cronsim: 04-24T22:00 04-25T22:00 04-26T21:00 04-27T21:00
Cairo daily croniter: 04-24T22:00 04-25T22:00 04-26T21:00 04-27T21:00
Cairo daily croner: 04-24T22:00 04-25T22:00 04-26T21:00 04-27T21:00
Cairo daily cron-parser: 04-24T22:00 04-25T22:00 04-26T21:00 04-27T21:00
TXT
if ! diff -u expected seen; then
  echo "changed: a scheduler runs a job at another time where midnight is doubled or missing" >&2
  exit 1
fi
cat seen
echo "as recorded: a month that is closed twice, and a day that is left out"
