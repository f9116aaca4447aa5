#!/usr/bin/env bash
# Software:  PyPI duckdb 2.0.1, polars 2.1.0, pyarrow 26.0.1, pandas 3.1.1, datafusion 55.0.0.
# Input:     three times 2^62 as int64 and twice 2^63 + 5 as uint64, summed; twice 10^29 - 10^-9 as
#            decimal(38, 9), summed; 0.333333333 times 0.075000001 as decimal(18, 9).
# One would guess: a sum that does not fit is an error or gets a wider type, as in DuckDB; a product
#            of decimals has the places of both.
# Seen:      sums of integers wrap in silence in four of five: three positive numbers make a
#            negative one, and 2 * (2^63 + 5) is 10. The decimals wrap in pyarrow and DataFusion,
#            and are an error in polars and DuckDB. polars keeps the product at nine places, so a
#            quantity times a price loses what the other engines keep; its mean and DuckDB's are
#            doubles.
#            Output: "polars int64: -4611686018427387904", "polars product: 0.025000000"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  duckdb==2.0.1 polars==2.1.0 pyarrow==26.0.1 pandas==3.1.1 datafusion==55.0.0

cat >sums.py <<'PY'
from decimal import Decimal
import datafusion
import duckdb
import pandas
import polars
import pyarrow
import pyarrow.compute

big = Decimal("99999999999999999999999999999.999999999")
columns = {
    "int64": pyarrow.table({"x": pyarrow.array([2**62] * 3, pyarrow.int64())}),
    "uint64": pyarrow.table({"x": pyarrow.array([2**63 + 5] * 2, pyarrow.uint64())}),
    "decimal": pyarrow.table({"x": pyarrow.array([big] * 2, pyarrow.decimal128(38, 9))}),
}
places = pyarrow.decimal128(18, 9)
factors = pyarrow.table({"quantity": pyarrow.array([Decimal("0.333333333")], places),
                         "price": pyarrow.array([Decimal("0.075000001")], places)})
context = datafusion.SessionContext()

def by_datafusion(expression, table):
    context.register_record_batches("t", [table.to_batches()])
    answer = context.sql(f"select {expression} as y from t").to_pylist()[0]["y"]
    context.deregister_table("t")
    return answer

engines = {
    "duckdb": lambda t: duckdb.sql("select sum(x) from t").fetchall()[0][0],
    "polars": lambda table: polars.from_arrow(table)["x"].sum(),
    "pyarrow": lambda table: pyarrow.compute.sum(table["x"]),
    "pandas": lambda table: table["x"].to_pandas(types_mapper=pandas.ArrowDtype).sum(),
    "datafusion": lambda table: by_datafusion("sum(x)", table),
}
for name, table in columns.items():
    for engine, total in engines.items():
        try:
            print(f"{engine} {name}: {total(table)}")
        except Exception as error:
            print(f"{engine} {name}: {type(error).__name__}")
frame = polars.from_arrow(factors)
product = pyarrow.compute.multiply(factors["quantity"], factors["price"])[0]
print("duckdb product:", duckdb.sql("select quantity * price from factors").fetchall()[0][0])
print("polars product:", frame.select(polars.col("quantity") * polars.col("price")).item())
print("pyarrow product:", product)
print("datafusion product:", by_datafusion("quantity * price", factors))
print("duckdb mean:", duckdb.sql("select typeof(avg(price)) from factors").fetchall()[0][0])
print("polars mean:", frame.select(polars.col("price").mean()).dtypes[0])
print("pyarrow mean:", pyarrow.compute.mean(factors["price"]).type)
PY
venv/bin/python sums.py >seen

cat >expected <<'TXT'
duckdb int64: 13835058055282163712
polars int64: -4611686018427387904
pyarrow int64: -4611686018427387904
pandas int64: -4611686018427387904
datafusion int64: -4611686018427387904
duckdb uint64: 18446744073709551626
polars uint64: 10
pyarrow uint64: 10
pandas uint64: 10
datafusion uint64: 10
duckdb decimal: OutOfRangeException
polars decimal: ComputeError
pyarrow decimal: -140282366920938463463374607431.768211458
pandas decimal: -140282366920938463463374607431.768211458
datafusion decimal: -140282366920938463463374607431.768211458
duckdb product: 0.025000000308333333
polars product: 0.025000000
pyarrow product: 0.025000000308333333
datafusion product: 0.025000000308333333
duckdb mean: DOUBLE
polars mean: Float64
pyarrow mean: decimal128(18, 9)
TXT
if ! diff -u expected seen; then
  echo "changed: an engine sums or multiplies in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: sums that wrap in silence, and a product that loses its places"
