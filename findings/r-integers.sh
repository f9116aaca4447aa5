#!/usr/bin/env bash
# Software:  R 4.2 of Debian 12 with data.table 1.14, bit64 4.0 and jsonlite 1.8.
# Input:     intervals with instants of 64 bits from CSV, a price of 0.0000475 and an amount to JSON.
# One would guess: a column that prints as 1796083200000000001 holds numbers, wherever it goes; JSON
#            has the price that the program has.
# Seen:      fread makes integer64 of the instants, which are bits of a double with a class. A loop,
#            sapply, ifelse, and c() with a plain number in front drop the class, and the instant is
#            1.300384e-188 without a word; sum and max are exact. toJSON writes four digits behind
#            the point: the price is 0. An instant read from JSON is a rounded double.
#            Output: "in a loop: 1.300384e-188", "as JSON: {\"price\":[0],\"amount\":[12.5]}"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq libblas3 libgfortran5 liblapack3 r-base-core r-cran-bit r-cran-bit64 \
  r-cran-data.table r-cran-jsonlite >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export R_HOME="$dir/root/usr/lib/R"
export R_LIBS="$R_HOME/library:$R_HOME/site-library"
libs="$dir/root/usr/lib/x86_64-linux-gnu"
export LD_LIBRARY_PATH="$R_HOME/lib:$libs:$libs/blas:$libs/lapack"
# The settings are links to /etc.
find "$R_HOME/etc" -type l -delete
cp root/etc/R/* "$R_HOME/etc/"
cp "$R_HOME/etc/Renviron.ucf" "$R_HOME/etc/Renviron"

cat >read.R <<'R'
library(data.table)
library(jsonlite)
intervals <- fread(text = "id,ns\na,1796083200000000001\nb,5\n")
ns <- intervals$ns
say <- function(what, value) cat(what, ": ", value, "\n", sep = "")
say("the column", format(ns[1]))
say("largest", format(max(ns)))
say("sum", format(sum(ns)))
for (one in ns[1]) say("in a loop", one)
say("sapply", sapply(ns[1], identity))
say("ifelse", ifelse(ns[1] > 10, ns[1], 0))
say("behind a 0", c(0, ns)[2])
say("as JSON", toJSON(list(price = 0.0000475, amount = 12.5)))
say("as JSON, all digits", toJSON(list(price = 0.0000475, amount = 12.5), digits = NA))
say("from JSON", sprintf("%.0f", fromJSON("[1796083200000000001]")))
say("from JSON, as text", fromJSON("[1796083200000000001]", bigint_as_char = TRUE))
R
"$R_HOME/bin/exec/R" --no-echo --no-restore --vanilla -f read.R >seen

cat >expected <<'TXT'
the column: 1796083200000000001
largest: 1796083200000000001
sum: 1796083200000000006
in a loop: 1.300384e-188
sapply: 1.300384e-188
ifelse: 1.300384e-188
behind a 0: 1.300384e-188
as JSON: {"price":[0],"amount":[12.5]}
as JSON, all digits: {"price":[4.75e-05],"amount":[12.5]}
from JSON: 1796083200000000000
from JSON, as text: 1796083200000000001
TXT
if ! diff -u expected seen; then
  echo "changed: R keeps large integers or small prices in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: an instant is 1.3e-188 in a loop, and a small price is 0 in JSON"
