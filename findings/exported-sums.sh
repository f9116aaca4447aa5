#!/usr/bin/env bash
# Software:  PyPI duckdb 2.0.1, and pandas 3.1.1 for one of the ways out.
# Input:     two whole numbers of nanoseconds; their sum, which fits 64 bits, is written to Parquet,
#            CSV and JSON, and handed to pandas.
# One would guess: a sum of whole numbers that DuckDB shows exactly is a whole number, or a decimal,
#            in each of its outputs.
# Seen:      sum(BIGINT) is a HUGEINT of 128 bits. Parquet has no such type, and DuckDB writes a
#            DOUBLE without a word, as pandas gets a float64; CSV and JSON are exact, and so are
#            max, count and the sum after a cast to BIGINT or DECIMAL(38, 0).
#            Output: "shown: 1796083200000000003", "in Parquet: 1.7960832e+18 DOUBLE"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check duckdb==2.0.1 pandas==3.1.1

cat >sums.py <<'PY'
import duckdb

duckdb.sql(
    "create table intervals as select unnest([1796083200000000001, 2]) as ns"
)
sums = """select sum(ns) as total, sum(ns)::bigint as cast_to_bigint,
    sum(ns)::decimal(38, 0) as cast_to_decimal from intervals"""
print("shown:", duckdb.sql(sums).fetchall()[0][0])
for form in ["parquet", "csv", "json"]:
    duckdb.sql(f"copy ({sums}) to 'sums.{form}' (format {form})")
for name in ["total", "cast_to_bigint", "cast_to_decimal"]:
    value, kind = duckdb.sql(f"select {name}, typeof({name}) from 'sums.parquet'").fetchall()[0]
    print(f"in Parquet, {name}: {value} {kind}")
print("in CSV:", open("sums.csv").read().splitlines()[1].split(",")[0])
print("in JSON:", open("sums.json").read().split(",")[0])
frame = duckdb.sql(sums).df()
print("in pandas:", f"{frame.total[0]:.0f}", frame.total.dtype)
PY
venv/bin/python sums.py >seen

cat >expected <<'TXT'
shown: 1796083200000000003
in Parquet, total: 1.7960832e+18 DOUBLE
in Parquet, cast_to_bigint: 1796083200000000003 BIGINT
in Parquet, cast_to_decimal: 1796083200000000003 DECIMAL(38,0)
in CSV: 1796083200000000003
in JSON: {"total":1796083200000000003
in pandas: 1796083200000000000 float64
TXT
if ! diff -u expected seen; then
  echo "changed: DuckDB writes sums of whole numbers in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: an exact sum is a double in Parquet and in pandas"
