#!/usr/bin/env bash
# Software:  PyPI wasmtime 50.0.1 (the engine for Python), npm @bytecodealliance/jco 1.35.0.
# Input:     one component whose functions hand their argument back, called with numbers that fit
#            the type and numbers that are beyond it.
# One would guess: a number beyond the type is an error in both, as it is in Rust and in the text
#            format of values.
# Seen:      both keep the low bits and say nothing: 300 is 44 as u8, -1 is 2^64 - 1 as u64, and
#            2^64 + 5 is 5. A balance of -1 ns, or a sum beyond 64 bits, becomes another valid one.
#            Python refuses 1.9; jco takes it as 1 and NaN as 0 where the type is small, and refuses
#            both where it is 64 bits wide. A bool is strict in Python, and anything in jco.
#            Output: "python u64 200: 200, 300: 300, -1: 18446744073709551615, ..."
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check wasmtime==50.0.1
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact @bytecodealliance/jco@1.35.0

cat >same.wat <<'WAT'
(component
  (core module $m
    (func (export "narrow") (param i32) (result i32) (local.get 0))
    (func (export "wide") (param i64) (result i64) (local.get 0)))
  (core instance $i (instantiate $m))
  (func (export "u8") (param "x" u8) (result u8) (canon lift (core func $i "narrow")))
  (func (export "s8") (param "x" s8) (result s8) (canon lift (core func $i "narrow")))
  (func (export "u32") (param "x" u32) (result u32) (canon lift (core func $i "narrow")))
  (func (export "u64") (param "x" u64) (result u64) (canon lift (core func $i "wide")))
  (func (export "s64") (param "x" s64) (result s64) (canon lift (core func $i "wide")))
  (func (export "bool") (param "x" bool) (result bool) (canon lift (core func $i "narrow"))))
WAT
cat >call.py <<'PY'
from wasmtime import Engine, Store, wat2wasm
from wasmtime.component import Component, Linker

text = open("same.wat").read()
open("same.wasm", "wb").write(wat2wasm(text))
engine = Engine()
component = Component(engine, text)
for name in ("u8", "s8", "u32", "u64", "s64", "bool"):
    answers = []
    for value in (200, 300, -1, 2**32 + 5, 2**63, 2**64 + 5, True, 1.9):
        store = Store(engine)
        function = Linker(engine).instantiate(store, component).get_func(store, name)
        try:
            answers.append(f"{value}: {function(store, value)}")
        except TypeError:
            answers.append(f"{value}: refused")
    print("python", name, ", ".join(answers))
PY
venv/bin/python call.py >seen

npx jco transpile same.wasm --quiet --out-dir js >/dev/null
mv js/same.js js/same.mjs
cat >call.mjs <<'JS'
import * as same from "./js/same.mjs";
for (const name of ["u8", "s8", "u32", "u64", "s64", "bool"]) {
  const answers = [200, 300, -1, 2 ** 32 + 5, true, 1.9, NaN, 2n ** 64n + 5n].map(
    (value) => {
      try {
        return `${value}: ${same[name](value)}`;
      } catch {
        return `${value}: refused`;
      }
    });
  console.log("jco", name, answers.join(", "));
}
JS
node call.mjs >>seen

cat >expected <<'TXT'
python u8 200: 200, 300: 44, -1: 255, 4294967301: 5, 9223372036854775808: 0, 18446744073709551621: 5, True: 1, 1.9: refused
python s8 200: -56, 300: 44, -1: -1, 4294967301: 5, 9223372036854775808: 0, 18446744073709551621: 5, True: 1, 1.9: refused
python u32 200: 200, 300: 300, -1: 4294967295, 4294967301: 5, 9223372036854775808: 0, 18446744073709551621: 5, True: 1, 1.9: refused
python u64 200: 200, 300: 300, -1: 18446744073709551615, 4294967301: 4294967301, 9223372036854775808: 9223372036854775808, 18446744073709551621: 5, True: 1, 1.9: refused
python s64 200: 200, 300: 300, -1: -1, 4294967301: 4294967301, 9223372036854775808: -9223372036854775808, 18446744073709551621: 5, True: 1, 1.9: refused
python bool 200: refused, 300: refused, -1: refused, 4294967301: refused, 9223372036854775808: refused, 18446744073709551621: refused, True: True, 1.9: refused
jco u8 200: 200, 300: 44, -1: 255, 4294967301: 5, true: 1, 1.9: 1, NaN: 0, 18446744073709551621: refused
jco s8 200: -56, 300: 44, -1: -1, 4294967301: 5, true: 1, 1.9: 1, NaN: 0, 18446744073709551621: refused
jco u32 200: 200, 300: 300, -1: 4294967295, 4294967301: 5, true: 1, 1.9: 1, NaN: 0, 18446744073709551621: refused
jco u64 200: 200, 300: 300, -1: 18446744073709551615, 4294967301: 4294967301, true: 1, 1.9: refused, NaN: refused, 18446744073709551621: 5
jco s64 200: 200, 300: 300, -1: -1, 4294967301: 4294967301, true: 1, 1.9: refused, NaN: refused, 18446744073709551621: 5
jco bool 200: true, 300: true, -1: true, 4294967301: true, true: true, 1.9: true, NaN: false, 18446744073709551621: true
TXT
if ! diff -u expected seen; then
  echo "changed: a binding treats numbers that do not fit in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: both bindings keep the low bits of a number that does not fit"
