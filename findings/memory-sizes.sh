#!/usr/bin/env bash
# Software:  PyPI kubernetes 37.0.2 (parse_quantity), bitmath 2.1.1, humanfriendly 10.0 and
#            pint 0.25.3.
# Input:     sizes of memory as descriptions of machines have them: 1Gi, 1GiB, 1GB, 1Gb, 1Mb, 1M.
# One would guess: GiB and Gi are 2^30, GB is 10^9, b is a bit or a byte, wherever the text is
#            accepted at all.
# Seen:      1Gi is 2^30 to Kubernetes and 10^9 to humanfriendly, which knows GiB. bitmath reads
#            1GB as 10^9, but as 2^30 with strict=False, which is there to forgive spelling; the
#            same switch turns 1Gb from a gigabit into 2^30 bytes, 8.6 times as much. To pint 1Gb is
#            a gilbert (magnetism), 1Mb a megabarn (an area), 1M a molar (a concentration).
#            Output: "1Gi: kubernetes 1073741824 ... humanfriendly 1000000000 pint -"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check \
  kubernetes==37.0.2 bitmath==2.1.1 humanfriendly==10.0 pint==0.25.3

cat >sizes.py <<'PY'
import bitmath
import humanfriendly
import pint
from kubernetes.utils.quantity import parse_quantity

units = pint.UnitRegistry()

def by_pint(text):
    quantity = units(text)
    return int(quantity.to("byte").magnitude) if quantity.check("bit") else quantity.units

readers = {
    "kubernetes": lambda text: int(parse_quantity(text)),
    "bitmath": lambda text: int(bitmath.parse_string(text).bytes),
    "lenient": lambda text: int(bitmath.parse_string(text, strict=False).bytes),
    "humanfriendly": humanfriendly.parse_size,
    "pint": by_pint,
}
for text in ("1Gi", "1GiB", "1GB", "1Gb", "1Mb", "1M"):
    answers = []
    for name, read in readers.items():
        try:
            answers.append(f"{name} {read(text)}")
        except Exception:
            answers.append(f"{name} -")
    print(f"{text}:", *answers)
PY
venv/bin/python sizes.py >seen

cat >expected <<'TXT'
1Gi: kubernetes 1073741824 bitmath - lenient 1073741824 humanfriendly 1000000000 pint -
1GiB: kubernetes - bitmath 1073741824 lenient 1073741824 humanfriendly 1073741824 pint 1073741824
1GB: kubernetes - bitmath 1000000000 lenient 1073741824 humanfriendly 1000000000 pint 1000000000
1Gb: kubernetes - bitmath 125000000 lenient 1073741824 humanfriendly 1000000000 pint gilbert
1Mb: kubernetes - bitmath 125000 lenient 1048576 humanfriendly 1000000 pint megabarn
1M: kubernetes 1000000 bitmath - lenient 1048576 humanfriendly 1000000 pint molar
TXT
if ! diff -u expected seen; then
  echo "changed: a library reads a size of memory in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: one text, several sizes"
