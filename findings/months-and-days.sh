#!/usr/bin/env bash
# Software:  dateutils 0.4.10 (Debian 12), beside Python 3.11's own dates.
# Input:     periods that begin on each day from 26 to 31 January 2026 and end on the first days of
#            March, as months and days (`ddiff -f '%m %d'`), and as days alone.
# One would guess: whole months and the days that are left, which are fewer than 31.
# Seen:      from 30 January to 1 March it is one month and 63 days, from the 31st to 1 and 2 March
#            one month and 62 or 63, where 29 or 30 days have gone by in all. Days alone are right,
#            and so are the periods around these, so that a test of a month's ends may not find it.
#            Output: "2026-01-31 to 2026-03-01: 1 months 62 days, in all 29"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq dateutils >/dev/null 2>&1
dpkg -x ./*.deb root
ddiff=root/usr/bin/dateutils.ddiff

for start in 26 28 29 30 31; do
  for end in 2026-02-28 2026-03-01 2026-03-02 2026-03-03 2026-03-04; do
    from=2026-01-$start
    echo "$from to $end: $("$ddiff" -f '%m months %d days' "$from" "$end"), in all" \
      "$("$ddiff" -f %d "$from" "$end")"
  done
done >seen
python3 - <<'PY' >>seen
import datetime

wrong = 0
for line in open("seen"):
    start, end = (datetime.date.fromisoformat(line[at:at + 10]) for at in (0, 14))
    wrong += int(line.split()[-1]) != (end - start).days
print("days in all that Python counts otherwise:", wrong)
PY

cat >expected <<'TXT'
2026-01-26 to 2026-02-28: 1 months 2 days, in all 33
2026-01-26 to 2026-03-01: 1 months 3 days, in all 34
2026-01-26 to 2026-03-02: 1 months 4 days, in all 35
2026-01-26 to 2026-03-03: 1 months 5 days, in all 36
2026-01-26 to 2026-03-04: 1 months 6 days, in all 37
2026-01-28 to 2026-02-28: 1 months 0 days, in all 31
2026-01-28 to 2026-03-01: 1 months 1 days, in all 32
2026-01-28 to 2026-03-02: 1 months 2 days, in all 33
2026-01-28 to 2026-03-03: 1 months 3 days, in all 34
2026-01-28 to 2026-03-04: 1 months 4 days, in all 35
2026-01-29 to 2026-02-28: 0 months 30 days, in all 30
2026-01-29 to 2026-03-01: 1 months 0 days, in all 31
2026-01-29 to 2026-03-02: 1 months 1 days, in all 32
2026-01-29 to 2026-03-03: 1 months 2 days, in all 33
2026-01-29 to 2026-03-04: 1 months 3 days, in all 34
2026-01-30 to 2026-02-28: 0 months 29 days, in all 29
2026-01-30 to 2026-03-01: 1 months 63 days, in all 30
2026-01-30 to 2026-03-02: 1 months 0 days, in all 31
2026-01-30 to 2026-03-03: 1 months 1 days, in all 32
2026-01-30 to 2026-03-04: 1 months 2 days, in all 33
2026-01-31 to 2026-02-28: 0 months 28 days, in all 28
2026-01-31 to 2026-03-01: 1 months 62 days, in all 29
2026-01-31 to 2026-03-02: 1 months 63 days, in all 30
2026-01-31 to 2026-03-03: 1 months 0 days, in all 31
2026-01-31 to 2026-03-04: 1 months 1 days, in all 32
days in all that Python counts otherwise: 0
TXT
if ! diff -u expected seen; then
  echo "changed: dateutils counts months and days in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a period of 29 days is one month and 62 days"
