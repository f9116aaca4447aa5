#!/usr/bin/env bash
# Software:  faketime and libfaketime 0.9.10 (Debian 12), Python 3.11 as the program under it.
# Input:     a program that compares four clocks with the wall clock and sleeps for 0.2 s: plain,
#            ten days ahead (FAKETIME=+10d), and at a fixed time (2026-11-30 23:59:59).
# One would guess: the wall clock is moved by ten days, and the clocks that count from the machine's
#            start stay, or are moved by as much.
# Seen:      CLOCK_MONOTONIC, CLOCK_BOOTTIME and CLOCK_TAI all read as the faked wall clock: the
#            machine seems to run since 1970, and boot time less monotonic time is 0. With a fixed
#            time they stand still in a nap, CLOCK_BOOTTIME too, so what it measures took no time.
#            Output: "+10d: CLOCK_BOOTTIME is the wall clock"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq faketime libfaketime >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
library=$(find "$dir/root" -name libfaketime.so.1)

cat >clocks.py <<'PY'
import sys
import time

NAMES = ("CLOCK_MONOTONIC", "CLOCK_MONOTONIC_RAW", "CLOCK_BOOTTIME", "CLOCK_TAI")
for name in NAMES:
    apart = time.clock_gettime(getattr(time, name)) - time.time()
    shown = "the wall clock" if abs(apart) < 5 else "a clock of its own"
    print(f"{sys.argv[1]}: {name} is {shown}")
for clock in ("CLOCK_REALTIME", "CLOCK_BOOTTIME"):
    before = time.clock_gettime(getattr(time, clock))
    time.sleep(0.2)
    slept = time.clock_gettime(getattr(time, clock)) - before
    print(f"{sys.argv[1]}: {clock}", "stands still" if slept == 0 else "goes on", "in a nap")
PY
under() {
  LD_PRELOAD=$library FAKETIME=$2 python3 clocks.py "$1"
}
{
  python3 clocks.py plain | grep -v TAI
  under +10d +10d
  under fixed "2026-11-30 23:59:59"
} >seen

cat >expected <<'TXT'
plain: CLOCK_MONOTONIC is a clock of its own
plain: CLOCK_MONOTONIC_RAW is a clock of its own
plain: CLOCK_BOOTTIME is a clock of its own
plain: CLOCK_REALTIME goes on in a nap
plain: CLOCK_BOOTTIME goes on in a nap
+10d: CLOCK_MONOTONIC is the wall clock
+10d: CLOCK_MONOTONIC_RAW is the wall clock
+10d: CLOCK_BOOTTIME is the wall clock
+10d: CLOCK_TAI is the wall clock
+10d: CLOCK_REALTIME goes on in a nap
+10d: CLOCK_BOOTTIME goes on in a nap
fixed: CLOCK_MONOTONIC is the wall clock
fixed: CLOCK_MONOTONIC_RAW is the wall clock
fixed: CLOCK_BOOTTIME is the wall clock
fixed: CLOCK_TAI is the wall clock
fixed: CLOCK_REALTIME stands still in a nap
fixed: CLOCK_BOOTTIME stands still in a nap
TXT
if ! diff -u expected seen; then
  echo "changed: libfaketime fakes another set of clocks" >&2
  exit 1
fi
cat seen
echo "as recorded: under faketime the clock of the machine's start is the wall clock"
