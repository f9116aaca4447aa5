#!/usr/bin/env bash
# Software:  RRDtool 1.7.2 of Debian 12, which Munin, collectd, Cacti and LibreNMS keep traffic in.
# Input:     a counter of bytes, read once a minute: 6,000 a minute, and begun anew at 0 once, as
#            after a restart of the machine or of its network; and the same without the restart.
# One would guess: what goes down has begun anew: the reading counts, or the minute is unknown.
# Seen:      as a COUNTER the drop is an overflow of 32 bits: 4,294,917,296 bytes instead of 6,000, and
#            the total is one short of even that, since rates are what is kept.
#            As a DERIVE with the minimum 0 the minute is unknown, and TOTAL leaves it out without a
#            word.
#            Output: "begun anew, COUNTER: 4294935295 bytes", "begun anew, DERIVE: 18000 bytes"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq rrdtool librrd8 libdbi1 >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu" TZ=UTC
tool="$dir/root/usr/bin/rrdtool"

begin=1764547200
# total KIND READINGS...: the bytes of five minutes, by readings at their ends.
total() {
  local kind=$1 at=$begin
  shift
  rm -f traffic.rrd
  "$tool" create traffic.rrd --start "$((begin - 1))" --step 60 \
    "DS:bytes:$kind:120:0:U" RRA:AVERAGE:0.5:1:60
  for reading; do
    "$tool" update traffic.rrd "$at:$reading"
    at=$((at + 60))
  done
  "$tool" graph /dev/null --start "$begin" --end "$((at - 60))" \
    DEF:bytes=traffic.rrd:bytes:AVERAGE VDEF:total=bytes,TOTAL PRINT:total:%.0lf | tail -n 1
}
{
  for kind in COUNTER DERIVE; do
    echo "steady, $kind: $(total "$kind" 50000 56000 62000 68000 74000) bytes"
    echo "begun anew, $kind: $(total "$kind" 50000 56000 6000 12000 18000) bytes"
  done
} >seen

cat >expected <<'TXT'
steady, COUNTER: 24000 bytes
begun anew, COUNTER: 4294935295 bytes
steady, DERIVE: 24000 bytes
begun anew, DERIVE: 18000 bytes
TXT
if ! diff -u expected seen; then
  echo "changed: RRDtool takes a counter that begins anew in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a counter that begins anew is 4 GiB or nothing"
