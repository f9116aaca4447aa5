#!/usr/bin/env bash
# Software:  PyPI wasmtime 50.0.1 (the engine's own Python binding),
#            npm @bytecodealliance/jco 1.35.0.
# Input:     one component, four functions that return result<u64, string>, result<u64, u32>,
#            result<u64> and result, each called once for ok and once for err.
# One would guess: Python raises where JavaScript throws, or hands back a value that tells ok
#            from err, in the same way for every result type.
# Seen:      Python's shape depends on the two payload types. Where their Python types differ, the
#            bare payload comes back and nothing is raised: an error is a str, or None. Where they
#            are the same, a Variant with a tag comes back, for a result without payloads too.
#            So a component that changes its error from string to u32 changes what ok looks like.
#            jco unwraps ok and throws a ComponentError with the payload, in all four cases.
#            Output: "python text err str 'refused'", "python code ok Variant ok 7"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check wasmtime==50.0.1
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact @bytecodealliance/jco@1.35.0

cat >results.wat <<'WAT'
(component
  (core module $m
    (memory (export "memory") 1)
    (data (i32.const 64) "refused")
    (func (export "text") (param $fail i32) (result i32)
      (i32.store8 (i32.const 0) (local.get $fail))
      (i64.store (i32.const 8) (i64.const 7))
      (if (local.get $fail) (then
        (i32.store (i32.const 8) (i32.const 64))
        (i32.store (i32.const 12) (i32.const 7))))
      (i32.const 0))
    (func (export "number") (param $fail i32) (result i32)
      (i32.store8 (i32.const 0) (local.get $fail))
      (i64.store (i32.const 8) (i64.const 7))
      (i32.const 0))
    (func (export "bare") (param $fail i32) (result i32) (local.get $fail)))
  (core instance $i (instantiate $m))
  (alias core export $i "memory" (core memory $memory))
  (func (export "text") (param "fail" bool) (result (result u64 (error string)))
    (canon lift (core func $i "text") (memory $memory)))
  (func (export "code") (param "fail" bool) (result (result u64 (error u32)))
    (canon lift (core func $i "number") (memory $memory)))
  (func (export "none") (param "fail" bool) (result (result u64))
    (canon lift (core func $i "number") (memory $memory)))
  (func (export "bare") (param "fail" bool) (result (result))
    (canon lift (core func $i "bare"))))
WAT

cat >call.py <<'PY'
from wasmtime import Engine, Store, wat2wasm
from wasmtime.component import Component, Linker, Variant

text = open("results.wat").read()
open("results.wasm", "wb").write(wat2wasm(text))
engine = Engine()
component = Component(engine, text)
for name in ("text", "code", "none", "bare"):
    for arm, fail in (("ok", False), ("err", True)):
        store = Store(engine)
        instance = Linker(engine).instantiate(store, component)
        value = instance.get_func(store, name)(store, fail)
        shown = f"{value.tag} {value.payload!r}" if isinstance(value, Variant) else repr(value)
        print("python", name, arm, type(value).__name__, shown)
PY
venv/bin/python call.py >seen

npx jco transpile results.wasm --quiet --out-dir js >/dev/null
mv js/results.js js/results.mjs
cat >call.mjs <<'JS'
import * as results from "./js/results.mjs";
for (const name of ["text", "code", "none", "bare"]) {
  for (const [arm, fail] of [["ok", false], ["err", true]]) {
    try {
      const value = results[name](fail);
      console.log("jco", name, arm, "returned", typeof value, String(value));
    } catch (error) {
      console.log("jco", name, arm, "threw", error.constructor.name, String(error.payload));
    }
  }
}
JS
node call.mjs >>seen

cat >expected <<'TXT'
python text ok int 7
python text err str 'refused'
python code ok Variant ok 7
python code err Variant err 7
python none ok int 7
python none err NoneType None
python bare ok Variant ok None
python bare err Variant err None
jco text ok returned bigint 7
jco text err threw ComponentError refused
jco code ok returned bigint 7
jco code err threw ComponentError 7
jco none ok returned bigint 7
jco none err threw ComponentError undefined
jco bare ok returned undefined undefined
jco bare err threw ComponentError undefined
TXT
if ! diff -u expected seen; then
  echo "changed: a binding hands over a component's result in another shape" >&2
  exit 1
fi
cat seen
echo "as recorded: Python's shape of a result depends on its payload types; jco throws"
