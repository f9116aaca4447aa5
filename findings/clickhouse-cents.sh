#!/usr/bin/env bash
# Software:  PyPI chdb 4.4.0 with chdb-core 26.9.0: ClickHouse's engine as a library.
# Input:     amounts made into decimals of two places: from a number with a point, from text, and
#            the hundred amounts from 0.00 to 0.99 that number / 100 gives; two instants a second
#            apart.
# One would guess: 0.29 with two places is 0.29, the hundred amounts add up to 49.50, and a second
#            is no hour.
# Seen:      0.29 is a double in SQL, and becoming a decimal cuts it: 0.28, and the hundred amounts
#            are 49.47; from text, or by CAST of the same literal, all is right. dateDiff counts
#            borders: from 10:59:59 to 11:00:00 it is one hour; age says 0.
#            Output: "toDecimal64(0.29, 2): 0.28", "a hundred amounts: 49.47"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check chdb==4.4.0 chdb-core==26.9.0

cat >ask.py <<'PY'
import chdb


def say(name, expression):
    print(f"{name}: {str(chdb.query(f'select {expression}', 'TSV')).strip()}")


for expression in [
    "toDecimal64(0.29, 2)",
    "toDecimal64(1.15, 2)",
    "toDecimal64('0.29', 2)",
    "0.29::Decimal(18, 2)",
]:
    say(expression, expression)
amounts = "(select toDecimal64({}, 2) as amount from numbers(100))"
say("a hundred amounts", f"sum(amount) from {amounts.format('number / 100')}")
say("in cents", f"sum(amount) from {amounts.format('number')}")
instants = "toDateTime('2026-11-30 10:59:59', 'UTC'), toDateTime('2026-11-30 11:00:00', 'UTC')"
for name in ["dateDiff", "age"]:
    say(f"{name} in hours", f"{name}('hour', {instants})")
PY
venv/bin/python ask.py >seen

cat >expected <<'TXT'
toDecimal64(0.29, 2): 0.28
toDecimal64(1.15, 2): 1.14
toDecimal64('0.29', 2): 0.29
0.29::Decimal(18, 2): 0.29
a hundred amounts: 49.47
in cents: 4950
dateDiff in hours: 1
age in hours: 0
TXT
if ! diff -u expected seen; then
  echo "changed: ClickHouse makes decimals or differences in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: 0.29 is 0.28, and a second is an hour"
