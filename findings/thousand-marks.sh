#!/usr/bin/env bash
# Software:  hledger 1.25 and ledger 3.3 (Debian 12), PyPI beancount 3.2.3.
# Input:     journals of one invoice, written 1,000 EUR, 1.000 EUR and 1,000.00 EUR; and 1.000 EUR
#            in a file that has 1.000,00 EUR as well, before or after it.
# One would guess: who takes 1,000.00 for a thousand takes 1,000 in the same file for it too; and
#            three programs that keep books as text read one amount.
# Seen:      1,000 is one to hledger, with 1,000.00 beside it too, and a thousand to the others.
#            1.000 is one to all of them, but a thousand to ledger where 1.000,00 stands before it
#            in the file, and one again where it stands behind. beancount refuses 1.000,00.
#            Output: "1,000: hledger one, ledger a thousand, beancount a thousand"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check beancount==3.2.3
apt-get download -qq hledger ledger libboost-python1.74.0 libboost-filesystem1.74.0 \
  libboost-iostreams1.74.0 libboost-regex1.74.0 libpython3.11 >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/ledger:$dir/root/usr/lib/x86_64-linux-gnu"
PATH="$dir/root/usr/bin:$PATH"

cat >read.py <<'PY'
import subprocess
from decimal import Decimal
from beancount import loader
from beancount.core.data import Transaction

def is_thousand(amount):
    return {1: "one", 1000: "a thousand"}[amount]

def books(amounts, opening):
    yield from opening
    for number, amount in enumerate(amounts, 1):
        yield f'2026-11-{number:02} * "invoice"'
        yield f"  Assets:A{number}  {amount} EUR"
        yield "  Income:Sales"

def asked(program, path, number):
    # Whether the account has 500 or more, which no way to print an amount can blur.
    query = ["balance", "--flat", f"Assets:A{number}"]
    if program == "hledger":
        query += ["-N", "amt:>500"]
    else:
        query += ["--limit", "amount > 500 EUR"]
    answer = subprocess.run([program, "-f", path, *query], capture_output=True, check=True)
    return "a thousand" if answer.stdout.strip() else "one"

for amounts in (["1,000"], ["1.000"], ["1,000.00", "1,000"], ["1,000", "1,000.00"],
                ["1.000,00", "1.000"], ["1.000", "1.000,00"]):
    number = 1 + next(i for i, amount in enumerate(amounts) if len(amount) == 5)
    beside = [amount for amount in amounts if len(amount) > 5]
    where = f", {'after' if number == 2 else 'before'} {beside[0]}" if beside else ""
    with open("books.journal", "w") as file:
        file.write("\n".join(books(amounts, [])) + "\n")
    told = [f"{program} {asked(program, 'books.journal', number)}"
            for program in ("hledger", "ledger")]
    opening = [f"2026-01-01 open Assets:A{n}" for n in (1, 2)] + ["2026-01-01 open Income:Sales"]
    entries, errors, _ = loader.load_string("\n".join(books(amounts, opening)) + "\n")
    if errors:
        told.append("beancount refuses")
    else:
        postings = [e.postings[0] for e in entries if isinstance(e, Transaction)]
        told.append(f"beancount {is_thousand(postings[number - 1].units.number)}")
    print(f"{amounts[number - 1]}{where}: " + ", ".join(told))
PY
venv/bin/python read.py >seen

cat >expected <<'TXT'
1,000: hledger one, ledger a thousand, beancount a thousand
1.000: hledger one, ledger one, beancount one
1,000, after 1,000.00: hledger one, ledger a thousand, beancount a thousand
1,000, before 1,000.00: hledger one, ledger a thousand, beancount a thousand
1.000, after 1.000,00: hledger one, ledger a thousand, beancount refuses
1.000, before 1.000,00: hledger one, ledger one, beancount refuses
TXT
if ! diff -u expected seen; then
  echo "changed: an amount with a mark of thousands is another amount" >&2
  exit 1
fi
cat seen
echo "as recorded: 1,000 is one or a thousand by program, 1.000 by its place in the file"
