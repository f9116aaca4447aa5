#!/usr/bin/env bash
# Software:  json-glib-format 1.6 (json-glib-tools), json_pp 4.07 (perl), jshon 20131010, jo 1.9,
#            Miller 6.6 (miller) and json_reformat (yajl-tools), all of Debian 12.
# Input:     one object with an instant in nanoseconds, 2^63, 2^64 + 1, an amount, a small price and
#            an account number, only to be printed again; jo makes it from its parts.
# One would guess: a program that indents JSON, or writes what a shell hands it, keeps the values;
#            at worst it goes through doubles.
# Seen:      json-glib-format turns 2^63 into -2^63 and 2^64 + 1 into -1, and writes 0.0000001 with
#            17 digits; json_pp keeps an instant and makes a double of 2^64 + 1; jshon refuses the
#            whole text; Miller makes texts of both numbers. jo keeps 16 digits of an instant and
#            turns account 007 into 7 and an id of 1e3 into 1000. json_reformat keeps all of it.
#            Output: "json-glib-format: "debt":-1"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq json-glib-tools libjson-glib-1.0-0 jshon libjansson4 jo miller yajl-tools \
  libyajl2 >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu" PATH="$dir/root/usr/bin:$PATH"

cat >input <<'JSON'
{"start": 1793988000123456789, "fleet": 9223372036854775808, "debt": 18446744073709551617,
 "amount": 12.50, "price": 0.0000001}
JSON
# One member a line, without blanks.
members() {
  local name=$1
  shift
  if ! "$@" >printed 2>said; then
    echo "$name: refused"
    return
  fi
  tr -d ' \t\n' <printed | tr ',{}' '\n\n\n' | grep '"' | sed "s/^/$name: /"
}
{
  members json-glib-format json-glib-format input
  members json_pp json_pp -json_opt canonical <input
  members jshon jshon <input
  members mlr mlr --json cat input
  members json_reformat json_reformat -m <input
  members jo jo start=1793988000123456789 debt=18446744073709551617 amount=12.50 \
    price=0.0000001 account=007 id=1e3 other=0x10
  members "jo -s" jo -- -s account=007 -s id=1e3
} >seen

cat >expected <<'TXT'
json-glib-format: "start":1793988000123456789
json-glib-format: "fleet":-9223372036854775808
json-glib-format: "debt":-1
json-glib-format: "amount":12.5
json-glib-format: "price":9.9999999999999995e-08
json_pp: "amount":12.5
json_pp: "debt":1.84467440737096e+19
json_pp: "fleet":9223372036854775808
json_pp: "price":1e-07
json_pp: "start":1793988000123456789
jshon: refused
mlr: "start":1793988000123456789
mlr: "fleet":"9223372036854775808"
mlr: "debt":"18446744073709551617"
mlr: "amount":12.50
mlr: "price":0.0000001
json_reformat: "start":1793988000123456789
json_reformat: "fleet":9223372036854775808
json_reformat: "debt":18446744073709551617
json_reformat: "amount":12.50
json_reformat: "price":0.0000001
jo: "start":1.793988000123457e+18
jo: "debt":1.844674407370955e+19
jo: "amount":12.5
jo: "price":1e-07
jo: "account":7
jo: "id":1000
jo: "other":16
jo -s: "account":"007"
jo -s: "id":"1e3"
TXT
if ! diff -u expected seen; then
  echo "changed: a program that prints JSON writes its numbers in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: large numbers become negative, doubles or texts by being printed"
