#!/usr/bin/env bash
# Software:  npm @bytecodealliance/componentize-js 0.23.0, run under PyPI wasmtime 50.0.1.
# Input:     a JavaScript component that returns the number of a text as u32, as list<u32> and as
#            u64, takes a signed s64 and shows it, and returns Math.random().
# One would guess: a u32 goes up to 2^32 - 1, alone as in a list; -1 is -1; random is random.
# Seen:      a u32 that is the whole result is right below 2^31 and wrong from there on: 2^31 is 0,
#            3000000000 is 3221225472, 2^32 - 1 is 4292870144; in a list each is right. An s64
#            argument of -1 arrives as 2^64 - 1. A u64 of 2^64 + 5 is 5. Two instances draw one
#            random number. Nothing is raised in any of these.
#            Output: "u32 3000000000: alone 3221225472, in a list 3000000000"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check wasmtime==50.0.1
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact \
  @bytecodealliance/componentize-js@0.23.0 @bytecodealliance/preview2-shim@0.26.1

cat >numbers.wit <<'WIT'
package finding:numbers;

world numbers {
  export alone: func(text: string) -> u32;
  export listed: func(text: string) -> list<u32>;
  export wide: func(text: string) -> u64;
  export signed: func(value: s64) -> string;
  export chance: func() -> f64;
}
WIT
cat >numbers.js <<'JS'
export const alone = (text) => Number(text);
export const listed = (text) => [Number(text)];
export const wide = (text) => BigInt(text);
export const signed = (value) => String(value);
export const chance = () => Math.random();
JS
cat >build.mjs <<'JS'
import { readFileSync, writeFileSync } from "node:fs";
import { componentize } from "@bytecodealliance/componentize-js";
const { component } = await componentize(readFileSync("numbers.js", "utf8"), {
  witWorld: readFileSync("numbers.wit", "utf8"),
  worldName: "numbers",
  disableFeatures: ["stdio", "http", "fetch-event", "clocks", "random"],
});
writeFileSync("numbers.wasm", component);
JS
node build.mjs >log 2>&1 || { cat log >&2; exit 1; }

cat >call.py <<'PY'
from wasmtime import Engine, Store, WasiConfig
from wasmtime.component import Component, Linker

engine = Engine()
component = Component(engine, open("numbers.wasm", "rb").read())

def call(name, *arguments):
    store = Store(engine)
    store.set_wasi(WasiConfig())
    linker = Linker(engine)
    linker.add_wasip2()
    return linker.instantiate(store, component).get_func(store, name)(store, *arguments)

for value in (2147483647, 2147483648, 3000000000, 4294967295):
    (listed,) = call("listed", str(value))
    print(f"u32 {value}: alone {call('alone', str(value))}, in a list {listed}")
for value in (5, -1, -2**63):
    print(f"s64 {value}: arrives as {call('signed', value)}")
for value in (2**64 - 1, 2**64 + 5):
    print(f"u64 {value}: {call('wide', str(value))}")
print("two instances draw one number:", call("chance") == call("chance"))
PY
venv/bin/python call.py >seen

cat >expected <<'TXT'
u32 2147483647: alone 2147483647, in a list 2147483647
u32 2147483648: alone 0, in a list 2147483648
u32 3000000000: alone 3221225472, in a list 3000000000
u32 4294967295: alone 4292870144, in a list 4294967295
s64 5: arrives as 5
s64 -1: arrives as 18446744073709551615
s64 -9223372036854775808: arrives as 9223372036854775808
u64 18446744073709551615: 18446744073709551615
u64 18446744073709551621: 5
two instances draw one number: True
TXT
if ! diff -u expected seen; then
  echo "changed: a JavaScript component hands integers over in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a bare u32 of 2^31 and more is another number"
