#!/usr/bin/env bash
# Software:  PyPI prometheus_client 0.23.1 and 0.26.0, writers and readers of the text format.
# Input:     gauges of 999999 to 1e16, and a text with the integer 2^53 + 1.
# One would guess: plain digits, or an exponent as Go and Python print it; and a client that reads
#            a text and writes it again keeps the value.
# Seen:      from a million on the client writes an exponent, and 0.23.1 pads it with a fixed zero:
#            1e+06, then 1.2345678901e+010 and 1e+015, and 1e+16 again from there on. 0.26.0 writes
#            e+10 and e+15, so an upgrade changes texts that are compared or hashed. Both read an
#            integer without a point as an exact int, 2^53 + 1 too, and both write it one less.
#            Output: "0.23.1 wrote 1.2345678901e+010", "0.26.0 wrote 1.2345678901e+10"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat >counters.py <<'PY'
import sys
from prometheus_client import CollectorRegistry, Gauge, generate_latest
from prometheus_client.parser import text_string_to_metric_families

def written(value):
    registry = CollectorRegistry()
    Gauge("spent", "spent", registry=registry).set(value)
    lines = generate_latest(registry).decode().splitlines()
    return next(line for line in lines if line.startswith("spent ")).split()[1]

version = sys.argv[1]
for value in (999999, 10**6, 12345678901, 10**15, 10**16):
    print(version, "wrote", written(value))
(family,) = text_string_to_metric_families("# TYPE spent gauge\nspent 9007199254740993\n")
read = family.samples[0].value
print(version, "read", type(read).__name__, read, "wrote", written(read))
PY
for version in 0.23.1 0.26.0; do
  python3 -m venv "venv-$version"
  "venv-$version/bin/pip" install --quiet --disable-pip-version-check "prometheus_client==$version"
  "venv-$version/bin/python" counters.py "$version"
done >seen

cat >expected <<'TXT'
0.23.1 wrote 999999.0
0.23.1 wrote 1e+06
0.23.1 wrote 1.2345678901e+010
0.23.1 wrote 1e+015
0.23.1 wrote 1e+16
0.23.1 read int 9007199254740993 wrote 9.007199254740992e+015
0.26.0 wrote 999999.0
0.26.0 wrote 1e+06
0.26.0 wrote 1.2345678901e+10
0.26.0 wrote 1e+15
0.26.0 wrote 1e+16
0.26.0 read int 9007199254740993 wrote 9.007199254740992e+15
TXT
if ! diff -u expected seen; then
  echo "changed: prometheus_client writes or reads large numbers in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: three-digit exponents in 0.23.1, and exact integers only when reading"
