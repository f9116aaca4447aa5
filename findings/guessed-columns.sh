#!/usr/bin/env bash
# Software:  PyPI csvkit 2.1.0 with agate 1.14.2: the programs for CSV that data teams have.
# Input:     two bills: a tenant named none, amounts in two currencies, numbers of machines (1 and
#            0), shares with %; a column of instants in nanoseconds; and one of small prices.
# One would guess: a column with signs of two currencies is text; 1 and 0 can be added; the largest
#            of a column is one of its numbers, since a number is a Decimal in agate.
# Seen:      1.50 EUR and 1.50 USD, with their signs, are 3; the signs and % are gone from what is
#            written, too. 1 and 0 are True and False, so that the sum of the column is None. The
#            tenant named none is empty, also with --no-inference; --blanks keeps the name. The
#            largest instant of csvstat is none of the column, csvsql makes doubles of 64-bit
#            integers, and 0.00004 and 0.00003 have the sum 0.
#            Output: "sum of both currencies: 3", "largest instant: 1796083200000000000"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
export PYTHONUTF8=1
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check csvkit==2.1.0 agate==1.14.2
PATH="$dir/venv/bin:$PATH"

cat >bills.csv <<'TXT'
tenant,amount,machines,share
none,1.50 €,1,7%
acme,$1.50,0,8%
TXT
printf 'id,price\na,0.00004\nb,0.00003\n' >prices.csv
printf 'id,ns\na,1796083200000000001\nb,5\n' >instants.csv
sql='select max(ns), typeof(ns) from instants'
{
  echo "sum of both currencies: $(csvstat -c amount --sum bills.csv)"
  echo "sum of the machines: $(csvstat -c machines --sum bills.csv)"
  echo "sorted:"
  csvsort -c machines bills.csv
  echo "sorted, without guesses:"
  csvsort --no-inference -c machines bills.csv
  echo "the same, with --blanks:"
  csvsort --no-inference --blanks -c machines bills.csv
  echo "largest instant: $(csvstat -c ns --max instants.csv)"
  echo "in SQL: $(csvsql --query "$sql" instants.csv | tail -n 1)"
  echo "sum of small prices: $(csvstat -c price --sum prices.csv)"
} >seen

cat >expected <<'TXT'
sum of both currencies: 3
sum of the machines: None
sorted:
tenant,amount,machines,share
acme,1.50,False,8
,1.50,True,7
sorted, without guesses:
tenant,amount,machines,share
acme,$1.50,0,8%
,1.50 €,1,7%
the same, with --blanks:
tenant,amount,machines,share
acme,$1.50,0,8%
none,1.50 €,1,7%
largest instant: 1796083200000000000
in SQL: 1.7960832e+18,real
sum of small prices: 0
TXT
if ! diff -u expected seen; then
  echo "changed: csvkit guesses columns in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: two currencies are added, counts are truth values, instants are doubles in SQL"
