#!/usr/bin/env bash
# Software:  hledger 1.25 and ledger 3.3 (Debian 12), with the timeclock format that both read.
# Input:     sessions of 17 s (30 of them) and of 19 s (59), as machines that sleep and wake have
#            them; and a night of Berlin in which the clocks go back.
# One would guess: a session counts from its i to its o, to the second that is written; hours are
#            rounded when they are shown.
# Seen:      hledger rounds each session to hundredths of an hour before it adds: 30 times 17 s are
#            nothing, 59 times 19 s are 0.59 h instead of 0.31 h, and no option brings the seconds
#            back. ledger is exact. Both count the local clock's hands, so the night from 22:00 to
#            06:00 has 8 hours, whatever TZ says, where 9 went by.
#            Output: "hledger, 59 times 19 s: 0.59h", "ledger, 59 times 19 s: 1121s"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq hledger ledger libboost-python1.74.0 libboost-filesystem1.74.0 \
  libboost-iostreams1.74.0 libboost-regex1.74.0 libpython3.11 >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/ledger:$dir/root/usr/lib/x86_64-linux-gnu"
PATH="$dir/root/usr/bin:$PATH"

sessions() {
  for minute in $(seq -w 0 "$(($1 - 1))"); do
    echo "i 2026-11-30 10:$minute:00 web"
    echo "o 2026-11-30 10:$minute:$2"
  done >"$3"
}
hours() {
  echo "hledger, $1: $(hledger -f "$2" balance -N -E | awk '{ print $1 }')"
  echo "ledger, $1: $(ledger -f "$2" balance --base | awk '{ print $1 }')"
}
sessions 30 17 short.timeclock
sessions 59 19 longer.timeclock
printf '%s\n' 'i 2026-10-24 22:00:00 web' 'o 2026-10-25 06:00:00' >night.timeclock
{
  hours "30 times 17 s" short.timeclock
  hours "59 times 19 s" longer.timeclock
  TZ=Europe/Berlin hours "a night of 9 hours" night.timeclock
} >seen

cat >expected <<'TXT'
hledger, 30 times 17 s: 0
ledger, 30 times 17 s: 510s
hledger, 59 times 19 s: 0.59h
ledger, 59 times 19 s: 1121s
hledger, a night of 9 hours: 8.00h
ledger, a night of 9 hours: 28800s
TXT
if ! diff -u expected seen; then
  echo "changed: a session of the timeclock format counts in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: each session is rounded to 36 seconds before they are added"
