#!/usr/bin/env bash
# Software:  npm @js-temporal/polyfill 0.5.1 and temporal-polyfill 1.0.8, both of JavaScript's
#            Temporal, whose instants have nanoseconds and are exact.
# Input:     a year less two nanoseconds between two instants: their difference by default, in
#            nanoseconds, added up three times, and added to the first instant again.
# One would guess: a difference between two exact instants is exact in each unit, or refused.
# Seen:      asked for in nanoseconds, as one does who wants whole numbers, the difference is a
#            rounded double: a whole year, two nanoseconds too long. It says PT31536000S without a
#            sign of rounding, and first instant plus difference isn't the second one. By default
#            (seconds and below) it is exact. Three of them are six nanoseconds too long. So it is
#            in both, as the standard has it; from 105 days on it can happen.
#            Output: "in nanoseconds PT31536000S, comes back: false"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact \
  @js-temporal/polyfill@0.5.1 temporal-polyfill@1.0.8

cat >difference.mjs <<'JS'
import * as first from "@js-temporal/polyfill";
import * as second from "temporal-polyfill";
for (const [name, { Temporal }] of Object.entries({ "js-temporal": first, "temporal": second })) {
  const start = Temporal.Instant.fromEpochNanoseconds(1764547200000000001n);
  const end = Temporal.Instant.fromEpochNanoseconds(1796083199999999999n);
  const told = (how, duration) => {
    const back = start.add(duration).equals(end);
    console.log(`${name}, ${how} ${duration}, comes back: ${back}`);
  };
  console.log(`${name}, exact: ${end.epochNanoseconds - start.epochNanoseconds} ns`);
  told("by default", start.until(end));
  const one = start.until(end, { largestUnit: "nanosecond" });
  told("in nanoseconds", one);
  console.log(`${name}, total: ${start.until(end).total("nanosecond")} ns`);
  console.log(`${name}, three times: ${one.add(one).add(one)}`);
  const short = Temporal.Instant.fromEpochNanoseconds(start.epochNanoseconds + 2n ** 53n - 1n);
  console.log(`${name}, 104 days: ${start.until(short, { largestUnit: "nanosecond" })}`);
}
JS
node difference.mjs >seen

cat >expected <<'TXT'
js-temporal, exact: 31535999999999998 ns
js-temporal, by default PT31535999.999999998S, comes back: true
js-temporal, in nanoseconds PT31536000S, comes back: false
js-temporal, total: 31536000000000000 ns
js-temporal, three times: PT94608000S
js-temporal, 104 days: PT9007199.254740991S
temporal, exact: 31535999999999998 ns
temporal, by default PT31535999.999999998S, comes back: true
temporal, in nanoseconds PT31536000S, comes back: false
temporal, total: 31536000000000000 ns
temporal, three times: PT94608000S
temporal, 104 days: PT9007199.254740991S
TXT
if ! diff -u expected seen; then
  echo "changed: a difference of two instants is rounded in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: in nanoseconds a difference is rounded, by default it is exact"
