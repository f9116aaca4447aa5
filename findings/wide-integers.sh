#!/usr/bin/env bash
# Software:  PyPI orjson 3.13.0, msgspec 0.23.0, ujson 6.1.0, python-rapidjson 1.25 and pysimdjson
#            7.0.2, beside Python's own json.
# Input:     2^64 - 1, 2^64 + 1, -2^63 - 1 and 2^128 - 1 as JSON, each as a whole number.
# One would guess: Python's integers have no end, so each reader keeps them or refuses.
# Seen:      from 2^64 on, and below -2^63, orjson returns a float and says nothing: 2^64 + 1 and
#            2^64 are one number to it; the same library refuses to write such an integer.
#            pysimdjson refuses to read it; the four others are exact.
#            Output: "orjson 18446744073709551617: float, off by 1"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check orjson==3.13.0 msgspec==0.23.0 \
  ujson==6.1.0 python-rapidjson==1.25 pysimdjson==7.0.2

cat >read.py <<'PY'
import json
import msgspec
import orjson
import rapidjson
import simdjson
import ujson

readers = {
    "json": json.loads,
    "msgspec": msgspec.json.decode,
    "ujson": ujson.loads,
    "rapidjson": rapidjson.loads,
    "simdjson": simdjson.loads,
    "orjson": orjson.loads,
}
for value in (2**64 - 1, 2**64 + 1, -2**63 - 1, 2**128 - 1):
    for name, read in readers.items():
        try:
            answer = read(str(value))
            apart = abs(int(answer) - value)
            told = f"{type(answer).__name__}, " + (f"off by {apart}" if apart else "exact")
        except Exception:
            told = "refused"
        print(f"{name} {value}: {told}")
for name, write in (("json", json.dumps), ("orjson", orjson.dumps)):
    try:
        print(f"{name} writes 2^64: {write(2**64)}")
    except Exception as error:
        print(f"{name} writes 2^64: {type(error).__name__}, {error}")
PY
venv/bin/python read.py >seen

cat >expected <<'TXT'
json 18446744073709551615: int, exact
msgspec 18446744073709551615: int, exact
ujson 18446744073709551615: int, exact
rapidjson 18446744073709551615: int, exact
simdjson 18446744073709551615: int, exact
orjson 18446744073709551615: int, exact
json 18446744073709551617: int, exact
msgspec 18446744073709551617: int, exact
ujson 18446744073709551617: int, exact
rapidjson 18446744073709551617: int, exact
simdjson 18446744073709551617: refused
orjson 18446744073709551617: float, off by 1
json -9223372036854775809: int, exact
msgspec -9223372036854775809: int, exact
ujson -9223372036854775809: int, exact
rapidjson -9223372036854775809: int, exact
simdjson -9223372036854775809: refused
orjson -9223372036854775809: float, off by 1
json 340282366920938463463374607431768211455: int, exact
msgspec 340282366920938463463374607431768211455: int, exact
ujson 340282366920938463463374607431768211455: int, exact
rapidjson 340282366920938463463374607431768211455: int, exact
simdjson 340282366920938463463374607431768211455: refused
orjson 340282366920938463463374607431768211455: float, off by 1
json writes 2^64: 18446744073709551616
orjson writes 2^64: TypeError, Integer exceeds 64-bit range
TXT
if ! diff -u expected seen; then
  echo "changed: a reader of JSON treats wide integers in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: one reader turns integers of 65 bits and more into floats"
