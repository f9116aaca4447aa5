#!/usr/bin/env bash
# Software:  PyPI zstandard 0.25.0, npm fflate 0.8.3, pako 3.0.3 and fzstd 0.1.1, beside Node's own
#            zlib.
# Input:     two exports, January's and February's, each compressed, joined by `cat` into one file,
#            which both formats allow; read by each way that the libraries offer.
# One would guess: a library reads a file of two parts as a whole, or refuses it, whichever of its
#            functions is called.
# Seen:      fflate's gunzipSync and decompressSync return January and say nothing, its stream has
#            both. zstandard's decompress, read_to_iter and decompressobj stop after January, while
#            its stream_reader, copy_stream and open go on; allow_extra_data=False makes decompress
#            refuse. The others have both. A sum over what was read is half of what was meant.
#            Output: "zstandard decompress: january", "fflate gunzipSync: january"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check zstandard==0.25.0
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact fflate@0.8.3 pako@3.0.3 fzstd@0.1.1

cat >read.py <<'PY'
import gzip
import io
import zstandard

MONTHS = (b"january ", b"february ")
zst = b"".join(zstandard.ZstdCompressor().compress(month) for month in MONTHS)
with open("both.zst", "wb") as file:
    file.write(zst)
with open("both.gz", "wb") as file:
    file.write(b"".join(gzip.compress(month) for month in MONTHS))

def copied(data):
    out = io.BytesIO()
    zstandard.ZstdDecompressor().copy_stream(io.BytesIO(data), out)
    return out.getvalue()

ways = {
    "decompress": lambda d: d.decompress(zst),
    "read_to_iter": lambda d: b"".join(d.read_to_iter(io.BytesIO(zst))),
    "decompressobj": lambda d: d.decompressobj().decompress(zst),
    "stream_reader": lambda d: d.stream_reader(io.BytesIO(zst)).read(),
    "copy_stream": lambda d: copied(zst),
    "open": lambda d: zstandard.open("both.zst", "rb").read(),
    "decompress, strict": lambda d: d.decompress(zst, allow_extra_data=False),
}
for name, read in ways.items():
    try:
        print(f"zstandard {name}: {read(zstandard.ZstdDecompressor()).decode().strip()}")
    except zstandard.ZstdError:
        print(f"zstandard {name}: refused")
PY
cat >read.mjs <<'JS'
import { readFileSync } from "node:fs";
import zlib from "node:zlib";
import * as fflate from "fflate";
import * as pako from "pako";
import * as fzstd from "fzstd";
const gz = readFileSync("both.gz");
const zst = readFileSync("both.zst");
const streamed = () => {
  const parts = [];
  new fflate.Gunzip((part) => parts.push(Buffer.from(part))).push(gz, true);
  return Buffer.concat(parts);
};
for (const [name, read] of Object.entries({
  "fflate gunzipSync": () => fflate.gunzipSync(gz),
  "fflate decompressSync": () => fflate.decompressSync(gz),
  "fflate Gunzip": streamed,
  "pako ungzip": () => pako.ungzip(gz),
  "node gunzipSync": () => zlib.gunzipSync(gz),
  "fzstd decompress": () => fzstd.decompress(zst),
})) {
  console.log(`${name}: ${Buffer.from(read()).toString().trim()}`);
}
JS
{
  venv/bin/python read.py
  node read.mjs
} >seen

cat >expected <<'TXT'
zstandard decompress: january
zstandard read_to_iter: january
zstandard decompressobj: january
zstandard stream_reader: january february
zstandard copy_stream: january february
zstandard open: january february
zstandard decompress, strict: refused
fflate gunzipSync: january
fflate decompressSync: january
fflate Gunzip: january february
pako ungzip: january february
node gunzipSync: january february
fzstd decompress: january february
TXT
if ! diff -u expected seen; then
  echo "changed: a library reads joined archives in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: what comes after the first part is left out without a word"
