#!/usr/bin/env bash
# Software:  npm cldr-core 47.0.0 and 48.0.0 (the data behind every Intl and ICU), PyPI iso4217
#            1.16.20260101 (the published table of ISO 4217).
# Input:     the digits after the point of every currency in ISO 4217, in three tables.
# One would guess: ISO 4217 decides, CLDR repeats it, and a new edition adds new currencies.
# Seen:      13 currencies have fewer digits in CLDR 47 than in ISO 4217, 17 in CLDR 48; the dinar
#            of Iraq has 3 in one and 0 in the other. CLDR 48 takes both digits from four currencies
#            in daily use, COP, HUF, IDR and PKR, while ISO 4217 keeps them: an amount of 1234.56
#            that a runtime formats by CLDR loses its fraction with an upgrade of the runtime.
#            Output: "moved from 47 to 48: COP 2->0 HUF 2->0 IDR 2->0 PKR 2->0"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check iso4217==1.16.20260101
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact \
  cldr47@npm:cldr-core@47.0.0 cldr48@npm:cldr-core@48.0.0

cat >compare.py <<'PY'
import json
from iso4217 import Currency

def cldr(edition):
    path = f"node_modules/cldr{edition}/supplemental/currencyData.json"
    data = json.load(open(path))["supplemental"]["currencyData"]["fractions"]
    return lambda code: int(data.get(code, data["DEFAULT"])["_digits"])

old, new = cldr(47), cldr(48)
iso = {c.code: c.exponent for c in Currency if c.exponent is not None}
moved = [f"{c} {old(c)}->{new(c)}" for c in sorted(iso) if old(c) != new(c)]
print("moved from 47 to 48:", *moved)
for name, edition in (("47", old), ("48", new)):
    apart = [f"{c} {iso[c]}/{edition(c)}" for c in sorted(iso) if iso[c] != edition(c)]
    print(f"ISO 4217 / CLDR {name}:", len(apart), *apart)
PY
venv/bin/python compare.py >seen

cat >expected <<'TXT'
moved from 47 to 48: COP 2->0 HUF 2->0 IDR 2->0 PKR 2->0
ISO 4217 / CLDR 47: 13 AFN 2/0 ALL 2/0 IQD 3/0 IRR 2/0 KPW 2/0 LAK 2/0 LBP 2/0 MGA 2/0 MMK 2/0 RSD 2/0 SOS 2/0 SYP 2/0 YER 2/0
ISO 4217 / CLDR 48: 17 AFN 2/0 ALL 2/0 COP 2/0 HUF 2/0 IDR 2/0 IQD 3/0 IRR 2/0 KPW 2/0 LAK 2/0 LBP 2/0 MGA 2/0 MMK 2/0 PKR 2/0 RSD 2/0 SOS 2/0 SYP 2/0 YER 2/0
TXT
if ! diff -u expected seen; then
  echo "changed: CLDR and ISO 4217 differ in other currencies" >&2
  exit 1
fi
cat seen
echo "as recorded: CLDR is not ISO 4217, and its digits move between editions"
