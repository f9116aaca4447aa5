#!/usr/bin/env bash
# Software:  PyPI duckdb 2.0.1, polars 2.1.0, pyarrow 26.0.1, datafusion 55.0.0.
# Input:     the decimals 0.125, 0.135, 2.675, -0.125 and 0.129 (18 digits, 3 places) brought to two
#            places, by round and by a cast; and 0.5, 1.5, 2.5 brought to whole numbers by a cast,
#            as decimals and (in DuckDB) as doubles.
# One would guess: decimals are what money is kept in, so four engines agree on half a cent, and an
#            engine agrees with itself.
# Seen:      round takes a half away from zero in DuckDB and DataFusion, to the even cent in polars
#            and pyarrow. A cast to two places is rounded likewise in DuckDB, DataFusion and polars,
#            and cut in pyarrow (safe=False; the default refuses). To whole numbers DuckDB takes
#            0.5 as 1 from a decimal and as 0 from a double, DataFusion rounds a cast to decimal and
#            cuts one to an integer, and polars too.
#            Output: "duckdb round: 0.13 0.14 2.68 -0.13 0.13", "polars round: 0.12 0.14 2.68 ..."
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1 datafusion==55.0.0

cat >halves.py <<'PY'
from decimal import Decimal
import datafusion
import duckdb
import polars
import pyarrow
import pyarrow.compute

def table(*texts):
    values = [Decimal(text) for text in texts]
    return pyarrow.table({"x": pyarrow.array(values, pyarrow.decimal128(18, 3))})

cents = table("0.125", "0.135", "2.675", "-0.125", "0.129")
halves = table("0.500", "1.500", "2.500")
context = datafusion.SessionContext()
context.register_record_batches("cents", [cents.to_batches()])
context.register_record_batches("halves", [halves.to_batches()])

def by_duckdb(expression, name):
    return [row[0] for row in duckdb.sql(f"select {expression} from {name}").fetchall()]

def by_datafusion(expression, name):
    rows = context.sql(f"select {expression} as y from {name}").to_pylist()
    return [row["y"] for row in rows]

def show(name, values):
    print(f"{name}:", *(f"{value:.2f}" for value in values))

decimals, wholes = polars.from_arrow(cents)["x"], polars.from_arrow(halves)["x"]
two = pyarrow.decimal128(18, 2)
show("duckdb round", by_duckdb("round(x, 2)", "cents"))
show("datafusion round", by_datafusion("round(x, 2)", "cents"))
show("polars round", decimals.round(2))
show("pyarrow round", pyarrow.compute.round(cents["x"], 2).to_pylist())
show("duckdb cast", by_duckdb("x::decimal(18, 2)", "cents"))
show("datafusion cast", by_datafusion("cast(x as decimal(18, 2))", "cents"))
show("polars cast", decimals.cast(polars.Decimal(18, 2)))
show("pyarrow cast", cents["x"].cast(two, safe=False).to_pylist())
print("duckdb decimal to bigint:", *by_duckdb("x::bigint", "halves"))
print("duckdb double to bigint:", *by_duckdb("x::double::bigint", "halves"))
print("datafusion to decimal:", *by_datafusion("cast(x as decimal(18, 0))", "halves"))
print("datafusion to bigint:", *by_datafusion("cast(x as bigint)", "halves"))
print("polars to decimal:", *wholes.cast(polars.Decimal(18, 0)))
print("polars to Int64:", *wholes.cast(polars.Int64))
PY
venv/bin/python halves.py >seen

cat >expected <<'TXT'
duckdb round: 0.13 0.14 2.68 -0.13 0.13
datafusion round: 0.13 0.14 2.68 -0.13 0.13
polars round: 0.12 0.14 2.68 -0.12 0.13
pyarrow round: 0.12 0.14 2.68 -0.12 0.13
duckdb cast: 0.13 0.14 2.68 -0.13 0.13
datafusion cast: 0.13 0.14 2.68 -0.13 0.13
polars cast: 0.12 0.14 2.68 -0.12 0.13
pyarrow cast: 0.12 0.13 2.67 -0.12 0.12
duckdb decimal to bigint: 1 2 3
duckdb double to bigint: 0 2 2
datafusion to decimal: 1 2 3
datafusion to bigint: 0 1 2
polars to decimal: 0 2 2
polars to Int64: 0 1 2
TXT
if ! diff -u expected seen; then
  echo "changed: an engine rounds half a cent in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: four engines, and no one rule for half a cent"
