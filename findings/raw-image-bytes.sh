#!/usr/bin/env bash
# Software:  qemu-img 7.2 (Debian 12, package qemu-utils).
# Input:     a raw file of 1,000 bytes, copied raw to raw; two raw files of zeros, of 3,000 and
#            4,608 bytes; sizes with a fraction and in hexadecimal.
# One would guess: a raw image is its bytes, a raw copy of it has the same digest, and two images
#            that `compare` calls identical are equal.
# Seen:      raw images grow to the next 512 bytes on the way: the copy of 1,000 bytes has 1,024, so
#            its digest is another, and `info` says 1024 of the file of 1,000. `compare` says
#            "Images are identical." and exits 0 for both pairs, of which one differs by three whole
#            sectors; -s exits 1. A new image of one byte or of 0x10 has 512; 1.1k is a size, while
#            .5k, 1e3 and 1KiB are refused.
#            Output: "copy of 1000 bytes: 1024, same digest no"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq qemu-utils >/dev/null 2>&1
dpkg -x ./*.deb tools
img=tools/usr/bin/qemu-img
"$img" --version | head -1 | sed -E 's/([0-9]+\.[0-9]+).*/\1/' >seen

code() {
  local answer=0
  "$@" >said || answer=$?
  echo "$answer, $(grep -c 'Images are identical' said || true) times identical"
}
digest() {
  sha256sum <"$1"
}
head -c 1000 /dev/zero | tr '\0' x >image
"$img" convert -f raw -O raw image copy
same=no
if [ "$(digest image)" = "$(digest copy)" ]; then same=yes; fi
{
  size=$("$img" info -f raw --output=json image | sed -n 's/.*virtual-size": \([0-9]*\),/\1/p')
  echo "info of 1000 bytes: virtual size $size"
  echo "copy of $(stat -c %s image) bytes: $(stat -c %s copy), same digest $same"
  echo "compare image copy: $(code "$img" compare -f raw -F raw image copy)"
  echo "compare -s image copy: $(code "$img" compare -s -f raw -F raw image copy)"
  head -c 3000 /dev/zero >short
  head -c 4608 /dev/zero >long
  echo "compare 3000 4608: $(code "$img" compare -f raw -F raw short long)"
  echo "compare -s 3000 4608: $(code "$img" compare -s -f raw -F raw short long)"
  for size in 1 1.1k 0x10 1e3 1KiB .5k 1B; do
    rm -f made
    "$img" create -q -f raw made "$size" 2>/dev/null || true
    echo "create $size: $(stat -c %s made 2>/dev/null || echo refused)"
  done
} >>seen

cat >expected <<'TXT'
qemu-img version 7.2
info of 1000 bytes: virtual size 1024
copy of 1000 bytes: 1024, same digest no
compare image copy: 0, 1 times identical
compare -s image copy: 1, 0 times identical
compare 3000 4608: 0, 1 times identical
compare -s 3000 4608: 1, 0 times identical
create 1: 512
create 1.1k: 1536
create 0x10: 512
create 1e3: refused
create 1KiB: refused
create .5k: refused
create 1B: 512
TXT
if ! diff -u expected seen; then
  echo "changed: qemu-img copies, compares or sizes raw images in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: raw copies grow, and compare calls them identical"
