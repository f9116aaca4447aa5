#!/usr/bin/env bash
# Software:  npm apache-arrow 21.2.0 and hyparquet 1.33.0, on a file by PyPI pyarrow 26.0.1.
# Input:     an amount of 12345678.90 as decimal(10, 2) and as decimal(38, 9), and two instants in
#            nanoseconds, the second one nanosecond before December; as an Arrow stream and as
#            Parquet.
# One would guess: a decimal is shown with its point, or as an object that has it; an instant is
#            exact or cut.
# Seen:      Arrow's own reader for JavaScript forgets the scale: text and JSON of the amount are
#            1234567890, a hundred times it, and a thousand million times it with nine places.
#            Instants are doubles of milliseconds, so the second one is in December. hyparquet has
#            the point, as a double, and cuts instants to milliseconds.
#            Output: "arrow amount: text 1234567890", "arrow instant: ... 2026-12-01T00:00:00.000Z"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check pyarrow==26.0.1
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact apache-arrow@21.2.0 hyparquet@1.33.0

venv/bin/python - <<'PY'
from decimal import Decimal
import pyarrow
import pyarrow.parquet

amount = [Decimal("12345678.90")] * 2
instants = [1793988000123456789, 1796083199999999999]
table = pyarrow.table({
    "amount": pyarrow.array(amount, pyarrow.decimal128(10, 2)),
    "precise": pyarrow.array(amount, pyarrow.decimal128(38, 9)),
    "ended": pyarrow.array(instants, pyarrow.timestamp("ns", "UTC")),
})
with pyarrow.ipc.new_stream("bill.arrows", table.schema) as writer:
    writer.write_table(table)
pyarrow.parquet.write_table(table, "bill.parquet", compression="none")
PY
cat >read.mjs <<'JS'
import { readFileSync } from "node:fs";
import { tableFromIPC } from "apache-arrow";
import { asyncBufferFromFile, parquetReadObjects } from "hyparquet";
const table = tableFromIPC(readFileSync("bill.arrows"));
for (const row of table) {
  for (const name of ["amount", "precise"]) {
    console.log(`arrow ${name}: text ${row[name]}, JSON ${JSON.stringify(row[name])}`);
  }
  console.log(`arrow instant: ${row.ended}, ${new Date(row.ended).toISOString()}`);
}
const file = await asyncBufferFromFile("bill.parquet");
for (const row of await parquetReadObjects({ file })) {
  console.log(`hyparquet amount: ${typeof row.amount} ${row.amount}, precise ${row.precise}`);
  console.log(`hyparquet instant: ${row.ended.toISOString()}`);
}
JS
node read.mjs >seen

cat >expected <<'TXT'
arrow amount: text 1234567890, JSON "\"1234567890\""
arrow precise: text 12345678900000000, JSON "\"12345678900000000\""
arrow instant: 1793988000123.4568, 2026-11-06T18:00:00.123Z
arrow amount: text 1234567890, JSON "\"1234567890\""
arrow precise: text 12345678900000000, JSON "\"12345678900000000\""
arrow instant: 1796083200000, 2026-12-01T00:00:00.000Z
hyparquet amount: number 12345678.9, precise 12345678.9
hyparquet instant: 2026-11-06T18:00:00.123Z
hyparquet amount: number 12345678.9, precise 12345678.9
hyparquet instant: 2026-11-30T23:59:59.999Z
TXT
if ! diff -u expected seen; then
  echo "changed: a reader for JavaScript shows decimals or instants in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: amounts without their point, and November's last instant in December"
