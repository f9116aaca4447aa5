#!/usr/bin/env bash
# Software:  GNU datamash 1.7, Miller 6.6 (miller), mawk 1.3.4 (Debian's awk) and bc, all of
#            Debian 12.
# Input:     a column of instants in nanoseconds, their sum, largest and smallest; twelve of them,
#            whose sum passes 2^63; and a column of amounts with three places.
# One would guess: the largest of a column is one of its numbers; a sum that passes 64 bits is an
#            error, or visibly a float.
# Seen:      datamash prints 14 digits of all, of the largest too, so that it isn't in the column;
#            --format '%.0f' gives them all. Miller is exact until the sum passes 2^63, and from
#            there on prints a rounded number that looks like a whole one. mawk prints 6 digits, and
#            with %d the largest number of 32 bits; amounts of 1234568.191 become 1.23457e+06.
#            Output: "datamash max: 1.7939880001235e+18", "mawk %d: 2147483647"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq datamash miller mawk bc >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
PATH="$dir/root/usr/bin:$PATH"

printf '%s\n' 1793988000123456789 1793988000123456788 5 >instants
for _ in 1 2 3 4; do
  cat instants
done >many
printf '%s\n' 0.1 0.2 1234567.891 >amounts
miller() {
  mlr --inidx --onidx stats1 -a "$2" -f 1 "$1"
}
{
  for what in sum max min; do
    echo "datamash $what: $(datamash "$what" 1 <instants)"
    echo "mlr $what: $(miller instants "$what")"
  done
  echo "datamash with a format, max: $(datamash --format '%.0f' max 1 <instants)"
  echo "bc: $(paste -sd+ instants | bc)"
  echo "mawk: $(mawk '{ sum += $1 } END { print sum }' instants)"
  echo "mawk %d: $(mawk '{ sum += $1 } END { printf "%d", sum }' instants)"
  echo "twelve, mlr: $(miller many sum)"
  echo "twelve, bc: $(paste -sd+ many | bc)"
  echo "amounts, datamash: $(datamash sum 1 <amounts)"
  echo "amounts, mlr: $(miller amounts sum)"
  echo "amounts, mawk: $(mawk '{ sum += $1 } END { print sum }' amounts)"
  echo "amounts, bc: $(paste -sd+ amounts | bc)"
} >seen

cat >expected <<'TXT'
datamash sum: 3.5879760002469e+18
mlr sum: 3587976000246913582
datamash max: 1.7939880001235e+18
mlr max: 1793988000123456789
datamash min: 5
mlr min: 5
datamash with a format, max: 1793988000123456789
bc: 3587976000246913582
mawk: 3.58798e+18
mawk %d: 2147483647
twelve, mlr: 14351904000987656000
twelve, bc: 14351904000987654328
amounts, datamash: 1234568.191
amounts, mlr: 1234568.191
amounts, mawk: 1.23457e+06
amounts, bc: 1234568.191
TXT
if ! diff -u expected seen; then
  echo "changed: a program for columns sums or prints large numbers in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: 14 digits, 6 digits or a rounded whole number, without a word"
