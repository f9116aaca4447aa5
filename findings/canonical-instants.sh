#!/usr/bin/env bash
# Software:  PyPI jcs 0.2.1 and rfc8785 0.1.4, npm canonicalize 5.1.0, all of which write canonical
#            JSON (RFC 8785) for hashes and signatures.
# Input:     two records whose instants are 100 ns apart, and the SHA-256 of what is written.
# One would guess: what can't be canonical is refused, so that two records never have one hash.
# Seen:      jcs takes Python's exact integers and writes them as doubles: both records have the
#            same bytes, in which stands neither instant, and so the same hash. rfc8785 refuses them
#            from 2^53 on. canonicalize refuses a BigInt and writes what JSON.parse has rounded.
#            Output: "jcs ...: {"ended":1793988000123456800}, the same hash: True"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check jcs==0.2.1 rfc8785==0.1.4
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact canonicalize@5.1.0

cat >hash.py <<'PY'
import hashlib
import jcs
import rfc8785

def show(name, write, instants):
    try:
        texts = [write({"ended": instant}) for instant in instants]
    except ValueError as error:
        print(f"{name} {instants[0]}: refused, {type(error).__name__}")
        return
    same = len({hashlib.sha256(text).digest() for text in texts}) == 1
    print(f"{name} {instants[0]}: {texts[0].decode()}, the same hash: {same}")

for instants in ((2**53 - 1, 2**53 - 2), (2**53, 2**53 + 1),
                 (1793988000123456789, 1793988000123456689)):
    show("jcs", jcs.canonicalize, instants)
    show("rfc8785", rfc8785.dumps, instants)
PY
cat >hash.mjs <<'JS'
import canonicalize from "canonicalize";
const texts = ["1793988000123456789", "1793988000123456689"].map((instant) =>
  canonicalize(JSON.parse(`{"ended":${instant}}`)));
console.log(`canonicalize: ${texts[0]}, the same: ${texts[0] === texts[1]}`);
try {
  canonicalize({ ended: 1n });
} catch (error) {
  console.log(`canonicalize, BigInt: refused, ${error.constructor.name}`);
}
JS
{
  venv/bin/python hash.py
  node hash.mjs
} >seen

cat >expected <<'TXT'
jcs 9007199254740991: {"ended":9007199254740991}, the same hash: False
rfc8785 9007199254740991: {"ended":9007199254740991}, the same hash: False
jcs 9007199254740992: {"ended":9007199254740992}, the same hash: True
rfc8785 9007199254740992: refused, IntegerDomainError
jcs 1793988000123456789: {"ended":1793988000123456800}, the same hash: True
rfc8785 1793988000123456789: refused, IntegerDomainError
canonicalize: {"ended":1793988000123456800}, the same: true
canonicalize, BigInt: refused, TypeError
TXT
if ! diff -u expected seen; then
  echo "changed: a writer of canonical JSON treats large integers in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: two instants, one hash"
