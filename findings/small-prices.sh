#!/usr/bin/env bash
# Software:  npm numeral 2.0.6, accounting 0.4.1, currency.js 2.0.4; PyPI price-parser 0.5.1; all of
#            which read amounts of money from text.
# Input:     a small price as Python's Decimal and as JavaScript's numbers are printed (1E-7, 1e-7,
#            7.5E-7, 1E+3), and small prices with a currency behind them.
# One would guess: what a language prints for a number is read as that number, or refused.
# Seen:      accounting takes 1E-7 for 1, numeral for -17 (1e-7 is right), currency.js for NaN; 1E+3
#            is 13 to all three, and 1 to price-parser. price-parser takes the point before three
#            digits for a mark of thousands, also where a 0 is before it: 0.075 EUR are 75 EUR, and
#            12.345 KWD, a currency with three places, are 12345. Nothing is raised by any.
#            Output: "1E-7: numeral -17, accounting 1", "0.075 EUR: price-parser 75"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check price-parser==0.5.1
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact \
  numeral@2.0.6 accounting@0.4.1 currency.js@2.0.4

venv/bin/python -c 'from decimal import Decimal
print("Python prints", Decimal(1) / 10**7, Decimal(75) / 10**8, Decimal("1E3"))' >seen
node -e 'console.log(`JavaScript prints ${1 / 1e7} ${75 / 1e8}`)' >>seen
cat >read.py <<'PY'
import sys
from price_parser import Price

for text in sys.argv[1:]:
    print(f"{text}: price-parser {Price.fromstring(text).amount}")
PY
cat >read.mjs <<'JS'
import numeral from "numeral";
import accounting from "accounting";
import currency from "currency.js";
for (const text of process.argv.slice(2)) {
  const value = currency(text, { precision: 8 }).value;
  const told = `numeral ${numeral(text).value()}, accounting ${accounting.unformat(text)}`;
  console.log(`${text}: ${told}, currency.js ${value}`);
}
JS
small=(0.0000001 1E-7 1e-7 7.5E-7 1E+3)
{
  node read.mjs "${small[@]}"
  venv/bin/python read.py "${small[@]}" "0.0001 EUR" "0.075 EUR" "0.0750 EUR" "12.345 KWD"
} >>seen

cat >expected <<'TXT'
Python prints 1E-7 7.5E-7 1E+3
JavaScript prints 1e-7 7.5e-7
0.0000001: numeral 1e-7, accounting 1e-7, currency.js 1e-7
1E-7: numeral -17, accounting 1, currency.js NaN
1e-7: numeral 1e-7, accounting 1, currency.js NaN
7.5E-7: numeral -7.57, accounting 7.5, currency.js NaN
1E+3: numeral 13, accounting 13, currency.js 13
0.0000001: price-parser 1E-7
1E-7: price-parser 1
1e-7: price-parser 1
7.5E-7: price-parser 7.5
1E+3: price-parser 1
0.0001 EUR: price-parser 0.0001
0.075 EUR: price-parser 75
0.0750 EUR: price-parser 0.0750
12.345 KWD: price-parser 12345
TXT
if ! diff -u expected seen; then
  echo "changed: a reader of amounts takes a small price for another amount" >&2
  exit 1
fi
cat seen
echo "as recorded: a price of 1E-7 is 1, -17 or no number, and 0.075 is 75"
