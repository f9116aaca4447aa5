#!/usr/bin/env bash
# Software:  tcllib 1.21 (Debian 12) with its packages math::bigfloat and math::decimal, under
#            Tcl 8.6 (package tcl8.6).
# Input:     sums and products of amounts, hours and prices, as text, by both packages.
# One would guess: the package for floats of any precision keeps at least what it was given; a
#            hundred hours at 0.075 cost 7.5.
# Seen:      math::bigfloat takes the last digit of each text for uncertain by one, and drops what
#            is uncertain then: 100 times 0.075 is 1.e+1, 1234.56 times 0.01 is 0.e+2, 1234.56 plus
#            0.01 is 1235. math::decimal is exact. Written as 100.000 and with zeros behind, the
#            first one has more digits, so the same amount has another price.
#            Output: "100 * 0.075: bigfloat 1.e+1, decimal 7.500"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq tcllib tcl8.6 libtcl8.6 >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu"
export TCL_LIBRARY="$dir/root/usr/share/tcltk/tcl8.6"

cat >amounts.tcl <<'TCL'
lappend auto_path [file join [pwd] root usr share tcltk tcllib1.21]
package require math::bigfloat
package require math::decimal
foreach {left right} {
  0.10 0.20  1234.56 0.01  100 0.075  100.000 0.075000  12.50 12.50  3600 0.0001
} {
  foreach {sign verb} {+ add * mul} {
    set big [math::bigfloat::$verb [math::bigfloat::fromstr $left] [math::bigfloat::fromstr $right]]
    if {$verb eq "mul"} { set verb multiply }
    set exact [math::decimal::$verb [math::decimal::fromstr $left] [math::decimal::fromstr $right]]
    puts "$left $sign $right: bigfloat [math::bigfloat::tostr $big],\
      decimal [math::decimal::tostr $exact]"
  }
}
TCL
root/usr/bin/tclsh8.6 amounts.tcl >seen

cat >expected <<'TXT'
0.10 + 0.20: bigfloat 0.3, decimal 0.30
0.10 * 0.20: bigfloat 2.e-2, decimal 0.0200
1234.56 + 0.01: bigfloat 1235., decimal 1234.57
1234.56 * 0.01: bigfloat 0.e+2, decimal 12.3456
100 + 0.075: bigfloat 100.1, decimal 100.075
100 * 0.075: bigfloat 1.e+1, decimal 7.500
100.000 + 0.075000: bigfloat 100.1, decimal 100.075000
100.000 * 0.075000: bigfloat 7.500, decimal 7.500000000
12.50 + 12.50: bigfloat 25.0, decimal 25.00
12.50 * 12.50: bigfloat 1.6e+2, decimal 156.2500
3600 + 0.0001: bigfloat 3600.000, decimal 3600.0001
3600 * 0.0001: bigfloat 0., decimal 0.3600
TXT
if ! diff -u expected seen; then
  echo "changed: tcllib computes amounts in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a hundred hours at 0.075 are 1.e+1"
