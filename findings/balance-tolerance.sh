#!/usr/bin/env bash
# Software:  PyPI beancount 3.2.3, hledger 1.25 (Debian 12).
# Input:     an invoice booked in two postings whose sum is not 0, with the same difference and more
#            or fewer digits behind the point: 10.004 against 10.00, 10.04 against 10.0 and 10.00,
#            100.4 against 100.0 and 100.
# One would guess: double entry means that postings cancel out, or that a fixed tolerance applies.
# Seen:      beancount takes half a unit of the last digit that was written, of the amount with the
#            fewest digits: 0.04 are lost without a word when the other side says 10.0, and an error
#            when it says 10.00; a whole number gives no tolerance at all, so 100 is stricter than
#            100.0 would be. hledger refuses each of them.
#            Output: "beancount 10.04 and -10.0: taken", "beancount 10.04 and -10.00: refused"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check beancount==3.2.3
apt-get download -qq hledger >/dev/null 2>&1
dpkg -x ./*.deb root

judge() {
  if "$@" >said 2>&1; then
    echo taken
  else
    grep -qi "balance" said && echo refused
  fi
}
while read -r debit credit; do
  cat >books.bean <<BOOKS
2026-01-01 open Assets:Receivable EUR
2026-01-01 open Income:Sales EUR
2026-11-30 * "invoice"
  Assets:Receivable  $debit EUR
  Income:Sales  $credit EUR
BOOKS
  cat >books.journal <<BOOKS
2026-11-30 invoice
  assets:receivable  $debit EUR
  income:sales  $credit EUR
BOOKS
  echo "beancount $debit and $credit: $(judge venv/bin/bean-check books.bean)"
  echo "hledger $debit and $credit: $(judge root/usr/bin/hledger -f books.journal balance)"
done >seen <<'AMOUNTS'
10.00 -10.00
10.004 -10.00
10.004 -10.000
10.04 -10.0
10.04 -10.00
100.04 -100.0
100.04 -100
AMOUNTS

cat >expected <<'TXT'
beancount 10.00 and -10.00: taken
hledger 10.00 and -10.00: taken
beancount 10.004 and -10.00: taken
hledger 10.004 and -10.00: refused
beancount 10.004 and -10.000: refused
hledger 10.004 and -10.000: refused
beancount 10.04 and -10.0: taken
hledger 10.04 and -10.0: refused
beancount 10.04 and -10.00: refused
hledger 10.04 and -10.00: refused
beancount 100.04 and -100.0: taken
hledger 100.04 and -100.0: refused
beancount 100.04 and -100: refused
hledger 100.04 and -100: refused
TXT
if ! diff -u expected seen; then
  echo "changed: an accounting tool balances a transaction in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: the digits that are written decide what may be lost"
