#!/usr/bin/env bash
# Software:  qemu-img 7.2 (Debian 12, package qemu-utils).
# Input:     a qcow2 image with four snapshots of one byte that changes: the first named 2, the
#            second named 1, the third and the fourth both named same.
# One would guess: a name is taken once; and what `-a NAME` puts back is what `-d NAME` deletes and
#            what `convert -l NAME` copies.
# Seen:      a second snapshot of one name is made without a word. `-a 1` and `convert -l 1` take
#            the snapshot with number 1, which is named 2; `-d 1` deletes the one that is named 1,
#            whose number is 2. Once that is gone, `-a 2` is the one named 2. So who looks at a
#            snapshot and deletes it then has deleted another, and numbers in names (days, builds)
#            are enough for it. Of two with one name the first is meant each time.
#            Output: "-a 1: the disk of write 1", "after -d 1: 1 named 2, 3 named same, ..."
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq qemu-utils libaio1 liburing2 >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu:$dir/root/lib/x86_64-linux-gnu"
img=root/usr/bin/qemu-img
io=root/usr/bin/qemu-io
"$img" --version | sed -nE 's/.* version ([0-9]+\.[0-9]+).*/version \1/p' >seen

names=(- 2 1 same same)
wrote() {
  "$io" -c "write -q -P $1 0 64k" disk
}
holds() {
  "$img" convert "$@" -O raw disk copy
  echo "the disk of write $(od -An -tu1 -N1 copy | tr -d ' ')"
}
left() {
  "$img" snapshot -l disk | awk '/^[0-9]/ { printf "%s%s named %s", sep, $1, $2; sep = ", " }'
}
"$img" create -q -f qcow2 disk 1M
for write in 1 2 3 4 5; do
  wrote "$write"
  if [ "$write" -lt 5 ]; then
    "$img" snapshot -c "${names[$write]}" disk
  fi
done
{
  echo "made: $(left)"
  for name in 1 2 same; do
    "$img" snapshot -a "$name" disk
    echo "-a $name: $(holds)"
    echo "convert -l $name: $(holds -l "$name")"
  done
  for name in 1 same; do
    "$img" snapshot -d "$name" disk
    echo "after -d $name: $(left)"
  done
  "$img" snapshot -a 2 disk
  echo "-a 2: $(holds)"
} >>seen

cat >expected <<'TXT'
version 7.2
made: 1 named 2, 2 named 1, 3 named same, 4 named same
-a 1: the disk of write 1
convert -l 1: the disk of write 1
-a 2: the disk of write 2
convert -l 2: the disk of write 2
-a same: the disk of write 3
convert -l same: the disk of write 3
after -d 1: 1 named 2, 3 named same, 4 named same
after -d same: 1 named 2, 4 named same
-a 2: the disk of write 1
TXT
if ! diff -u expected seen; then
  echo "changed: qemu-img finds snapshots by number and name in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: putting back looks for a number first, deleting for a name"
