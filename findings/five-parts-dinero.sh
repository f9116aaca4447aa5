#!/usr/bin/env bash
# Software:  npm dinero.js 2.0.2 with its own currency table, beside PyPI iso4217 1.16.20260101.
# Input:     12345 minor units in EUR, MGA (ariary) and MRU (ouguiya), all of 2 digits in ISO.
# One would guess: 123.45 three times, as in ISO 4217.
# Seen:      dinero gives the ariary and the ouguiya base 5 and one place, five parts to the whole,
#            as the coins are: the same 12345 is 2469 whole units, twenty times as much. With an
#            explicit scale of 2 the parts become twenty-fifths: 493 and 20. toDecimal refuses
#            both currencies, so it is only who prints decimals that notices.
#            Output: "MGA iso 2 base 5 exponent 1 units 2469,0 with scale 2 493,20 decimal refused"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check iso4217==1.16.20260101
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact dinero.js@2.0.2

venv/bin/python - >iso.json <<'PY'
import json
from iso4217 import Currency
print(json.dumps({c.code: c.exponent for c in Currency if c.exponent is not None}))
PY
cat >parts.cjs <<'JS'
const iso = require("./iso.json");
const { dinero, toDecimal, toUnits } = require("dinero.js");
const currencies = require("dinero.js/currencies");
const decimal = (money) => {
  try {
    return toDecimal(money);
  } catch {
    return "refused";
  }
};
for (const code of ["EUR", "MGA", "MRU"]) {
  const currency = currencies[code];
  const money = dinero({ amount: 12345, currency });
  const scaled = dinero({ amount: 12345, currency, scale: 2 });
  console.log(code, "iso", iso[code], "base", currency.base, "exponent", currency.exponent,
    "units", String(toUnits(money)), "with scale 2", String(toUnits(scaled)),
    "decimal", decimal(money));
}
const others = Object.values(currencies).filter(({ code, base, exponent }) =>
  code in iso && (base !== 10 || exponent !== iso[code]));
console.log("apart from ISO 4217:", others.map(({ code }) => code).join(" "));
JS
node parts.cjs >seen

cat >expected <<'TXT'
EUR iso 2 base 10 exponent 2 units 123,45 with scale 2 123,45 decimal 123.45
MGA iso 2 base 5 exponent 1 units 2469,0 with scale 2 493,20 decimal refused
MRU iso 2 base 5 exponent 1 units 2469,0 with scale 2 493,20 decimal refused
apart from ISO 4217: MGA MRU
TXT
if ! diff -u expected seen; then
  echo "changed: dinero.js counts the parts of a currency in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: dinero.js reads two-digit amounts of MGA and MRU as twenty times as much"
