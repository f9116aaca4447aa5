#!/usr/bin/env bash
# Software:  PyPI fastparquet 2026.9.0 and npm @dsnp/parquetjs 1.8.8, readers of Parquet; the file is
#            written by PyPI pyarrow 26.0.1.
# Input:     amounts as DECIMAL(18, 2) and DECIMAL(38, 12), as FOCUS exports have them, and counts of
#            64 bits with and without a sign.
# One would guess: a reader answers decimals, texts or an error.
# Seen:      fastparquet makes floats of decimals without a word, so that 9007199254740993.01 is
#            9007199254740994. @dsnp/parquetjs hands over the bare bytes of a decimal, most
#            significant first and without its scale, and 2^64 - 1 without a sign as -1.
#            Output: "fastparquet wide: 9007199254740994.0", "@dsnp/parquetjs bytes: bigint -1"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check fastparquet==2026.9.0 pyarrow==26.0.1
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact @dsnp/parquetjs@1.8.8

cat >write.py <<'PY'
from decimal import Decimal

import pyarrow as pa
import pyarrow.parquet as pq

columns = {
    "amount": pa.array([Decimal("12345678.90")], pa.decimal128(18, 2)),
    "wide": pa.array([Decimal("9007199254740993.01")], pa.decimal128(38, 2)),
    "price": pa.array([Decimal("0.000000000001")], pa.decimal128(38, 12)),
    "ns": pa.array([1796083200000000001], pa.int64()),
    "bytes": pa.array([2**64 - 1], pa.uint64()),
}
pq.write_table(pa.table(columns), "bill.parquet", compression="none")
PY
venv/bin/python write.py
cat >read.py <<'PY'
import fastparquet

row = fastparquet.ParquetFile("bill.parquet").to_pandas().iloc[0]
for name in ["amount", "wide", "price"]:
    print(f"fastparquet {name}: {row[name]!r}".replace("np.float64(", "").rstrip(")"))
PY
cat >read.cjs <<'JS'
const shown = (value) =>
  Buffer.isBuffer(value) ? `Buffer ${value.toString('hex')}` : `${typeof value} ${value}`;
const name = '@dsnp/parquetjs';
const read = async () => {
  const reader = await require(name).ParquetReader.openFile('bill.parquet');
  const row = await reader.getCursor().next();
  await reader.close();
  for (const [column, value] of Object.entries(row)) {
    console.log(`${name} ${column}: ${shown(value)}`);
  }
};
read();
JS
{
  venv/bin/python read.py
  node read.cjs
} >seen

cat >expected <<'TXT'
fastparquet amount: 12345678.9
fastparquet wide: 9007199254740994.0
fastparquet price: 1e-12
@dsnp/parquetjs amount: Buffer 00000000499602d2
@dsnp/parquetjs wide: Buffer 00000000000000000c80000000000065
@dsnp/parquetjs price: Buffer 00000000000000000000000000000001
@dsnp/parquetjs ns: bigint 1796083200000000001
@dsnp/parquetjs bytes: bigint -1
TXT
if ! diff -u expected seen; then
  echo "changed: a reader of Parquet answers decimals in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: decimals are floats or bare bytes, and the largest count is -1"
