#!/usr/bin/env bash
# Software:  mkfs.erofs, dump.erofs and fsck.erofs 1.5 (Debian 12, package erofs-utils).
# Input:     a folder with a program that is setuid, a second name of it (a hard link), an extended
#            attribute, and a file of 10 MiB that is a hole but for two bytes; made an image, and
#            extracted from it again by root with owners and modes (the default of root).
# One would guess: what is in the image comes out of it, or the program says what it left out.
# Seen:      the image has all of it, as its own inodes say. Extracted, the program is no longer
#            setuid (sticky folders stay), the two names are two files, the attribute is gone, and
#            the hole takes 10 MiB; fsck.erofs exits 0 and prints nothing.
#            dump.erofs shows 0755 for the mode 4755 that the image has.
#            Output: "in the image: mode 4755, links 2", "extracted: mode 755, links 1"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

if [ "$(id -u)" != 0 ]; then
  echo "extracted-images: it is about what root extracts; run it as root" >&2
  exit 1
fi
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq erofs-utils liblz4-1 libuuid1 libselinux1 libpcre2-8-0 >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LD_LIBRARY_PATH="$dir/root/usr/lib/x86_64-linux-gnu:$dir/root/lib/x86_64-linux-gnu"
bin=root/usr/bin

mkdir -p folder/shared
chmod 1777 folder/shared
echo program >folder/program
ln folder/program folder/second
chmod 4755 folder/program
python3 -c 'import os; os.setxattr("folder/program", "user.note", b"kept")'
truncate -s 10M folder/hole
echo x >>folder/hole
"$bin/mkfs.erofs" image folder >log 2>&1

cat >look.py <<'PY'
import os
import re
import struct
import subprocess
import sys

def told(path):
    answer = subprocess.run(["root/usr/bin/dump.erofs", f"--path={path}", "image"],
                            capture_output=True, check=True, text=True)
    return answer.stdout + answer.stderr

def in_image(path):
    said = told(path)
    with open("image", "rb") as image:
        image.seek(1024 + 40)
        (block,) = struct.unpack("<I", image.read(4))
        image.seek(block * 4096 + int(re.search(r"NID: (\d+)", said)[1]) * 32)
        inode = image.read(64)
        rest = image.read(4096)
    layout, attributes, mode = struct.unpack("<HHH", inode[:6])
    assert layout & 1, "an inode of 64 bytes"
    (links,) = struct.unpack("<I", inode[44:48])
    note = b"kept" in rest[:4 * attributes + 12] if attributes else False
    shown = re.search(r"Access: (\d+)", said)[1]
    return f"mode {mode & 0o7777:o}, links {links}, attribute {note}, shown as {shown}"

def in_folder(path):
    state = os.stat(path)
    attribute = "user.note" in os.listxattr(path)
    return f"mode {state.st_mode & 0o7777:o}, links {state.st_nlink}, attribute {attribute}"

print("folder:", in_folder("folder/program"))
print("in the image:", in_image("/program"))
print("extracted:", in_folder("extracted/program"))
print(f"sticky folder: {os.stat('extracted/shared').st_mode & 0o7777:o}")
for where in ("folder", "extracted"):
    kibibytes = os.stat(f"{where}/hole").st_blocks // 2
    print(f"hole, {where}:", "10 MiB on disk" if kibibytes >= 10240 else "next to nothing on disk")
PY
code=0
"$bin/fsck.erofs" --extract=extracted image >log 2>&1 || code=$?
{
  python3 look.py
  echo "fsck.erofs: exit $code, $(grep -c . log || true) lines"
} >seen

cat >expected <<'TXT'
folder: mode 4755, links 2, attribute True
in the image: mode 4755, links 2, attribute True, shown as 0755
extracted: mode 755, links 1, attribute False
sticky folder: 1777
hole, folder: next to nothing on disk
hole, extracted: 10 MiB on disk
fsck.erofs: exit 0, 0 lines
TXT
if ! diff -u expected seen; then
  echo "changed: an image of EROFS is extracted in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: modes, links, attributes and holes are lost, with exit 0"
