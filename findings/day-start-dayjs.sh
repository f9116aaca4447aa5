#!/usr/bin/env bash
# Software:  npm dayjs 1.11.23 (plugins utc and timezone), beside npm moment-timezone 0.6.6,
#            on Node 20.20.
# Input:     noon of a day that has no midnight, because its clocks go from 00:00 to 01:00:
#            Cairo 2026-04-24, Beirut 2026-03-29, Havana 2026-03-08, Santiago 2026-09-06.
# One would guess: startOf('day') is the first instant of that day (01:00 summer time), or at
#            worst an error; and whichever it is, it does not depend on who asks.
# Seen:      it depends on the zone of the process that asks. Under UTC, Cairo and Beirut are an
#            hour early, Havana and Santiago right; under New York all four are early; under Tokyo
#            none. Under UTC the end of the day before moves along, so an hour changes sides and
#            the sum is right; under New York it does not in Havana and Santiago, so the two days
#            overlap and the hour is in both.
#            Output: "UTC asks Africa/Cairo: starts 2026-04-23T21:00:00.000Z, ... EARLY"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact dayjs@1.11.23 moment-timezone@0.6.6

cat >days.cjs <<'JS'
const dayjs = require("dayjs");
dayjs.extend(require("dayjs/plugin/utc"));
dayjs.extend(require("dayjs/plugin/timezone"));
const moment = require("moment-timezone");
const days = [
  ["Africa/Cairo", "2026-04-24"],
  ["Asia/Beirut", "2026-03-29"],
  ["America/Havana", "2026-03-08"],
  ["America/Santiago", "2026-09-06"],
];
const hours = (from, until) => Math.round((until - from) / 3600e3);
for (const [zone, day] of days) {
  const noon = dayjs.tz(`${day} 12:00`, zone);
  const start = noon.startOf("day");
  const before = noon.subtract(1, "day");
  const gap = start - before.endOf("day");
  const next = noon.add(1, "day").startOf("day");
  const first = moment.tz(`${day} 12:00`, zone).startOf("day");
  const verdict = start.valueOf() === first.valueOf() ? "right" : "EARLY";
  console.log(`${process.env.TZ} asks ${zone}: starts ${start.toISOString()},`,
    `${gap} ms after,`,
    `hours ${hours(before.startOf("day"), start)} ${hours(start, next)}, ${verdict}`);
}
JS
for zone in UTC America/New_York Asia/Tokyo; do
  TZ=$zone node days.cjs
done >seen

cat >expected <<'TXT'
UTC asks Africa/Cairo: starts 2026-04-23T21:00:00.000Z, 1 ms after, hours 23 24, EARLY
UTC asks Asia/Beirut: starts 2026-03-28T21:00:00.000Z, 1 ms after, hours 23 24, EARLY
UTC asks America/Havana: starts 2026-03-08T05:00:00.000Z, 1 ms after, hours 24 23, right
UTC asks America/Santiago: starts 2026-09-06T04:00:00.000Z, 1 ms after, hours 24 23, right
America/New_York asks Africa/Cairo: starts 2026-04-23T21:00:00.000Z, 1 ms after, hours 23 24, EARLY
America/New_York asks Asia/Beirut: starts 2026-03-28T21:00:00.000Z, 1 ms after, hours 23 24, EARLY
America/New_York asks America/Havana: starts 2026-03-08T04:00:00.000Z, -3599999 ms after, hours 23 24, EARLY
America/New_York asks America/Santiago: starts 2026-09-06T03:00:00.000Z, -3599999 ms after, hours 23 24, EARLY
Asia/Tokyo asks Africa/Cairo: starts 2026-04-23T22:00:00.000Z, 1 ms after, hours 24 23, right
Asia/Tokyo asks Asia/Beirut: starts 2026-03-28T22:00:00.000Z, 1 ms after, hours 24 23, right
Asia/Tokyo asks America/Havana: starts 2026-03-08T05:00:00.000Z, 1 ms after, hours 24 23, right
Asia/Tokyo asks America/Santiago: starts 2026-09-06T04:00:00.000Z, 1 ms after, hours 24 23, right
TXT
if ! diff -u expected seen; then
  echo "changed: dayjs places the start of a day without midnight elsewhere" >&2
  exit 1
fi
cat seen
echo "as recorded: dayjs starts a day without midnight an hour early, depending on who asks"
