#!/usr/bin/env bash
# Software:  npm binaryen 132.0.0 (wasm-opt), PyPI wasmtime 50.0.1; Node 20's engine beside it.
# Input:     one module of four functions: 0/0 as f32, infinity - infinity and the root of -1 as
#            f64, each from constants, and 0/0 as f32 from an argument; the result's bits as an
#            integer.
# One would guess: an optimiser keeps what a module computes, and two engines that agree on the
#            plain module agree on the optimised one.
# Seen:      each level of wasm-opt from -O1 on turns the sign of NaN over. Both engines give the
#            negative NaN of the processor (ffc00000); the folded constant is the positive one
#            (7fc00000), so the bits, their sign and the copysign of a number change with the
#            optimiser alone. The function with the argument keeps the negative one, so one
#            optimised module answers 0/0 in two ways. The standard allows either sign.
#            Output: "wasm-opt -O1: ratio 7fc00000 ...", "plain: ratio ffc00000 ..."
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check wasmtime==50.0.1
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact binaryen@132.0.0

cat >nan.wat <<'WAT'
(module
  (func (export "ratio") (result i32)
    (i32.reinterpret_f32 (f32.div (f32.const 0) (f32.const 0))))
  (func (export "difference") (result i64)
    (i64.reinterpret_f64 (f64.sub (f64.const inf) (f64.const inf))))
  (func (export "root") (result i64)
    (i64.reinterpret_f64 (f64.sqrt (f64.const -1))))
  (func (export "argument") (param $zero f32) (result i32)
    (i32.reinterpret_f32 (f32.div (local.get $zero) (local.get $zero)))))
WAT
venv/bin/python -c 'import wasmtime
open("plain.wasm", "wb").write(wasmtime.wat2wasm(open("nan.wat").read()))'

cat >call.py <<'PY'
import sys
from wasmtime import Engine, Instance, Module, Store

store = Store(Engine())
module = Module(store.engine, open(sys.argv[2], "rb").read())
exports = Instance(store, module, []).exports(store)
answers = []
for name, bits, arguments in (("ratio", 32, ()), ("difference", 64, ()), ("root", 64, ()),
                              ("argument", 32, (0.0,))):
    value = exports[name](store, *arguments) & ((1 << bits) - 1)
    answers.append(f"{name} {value:x}")
print(f"wasmtime, {sys.argv[1]}:", *answers)
PY
cat >call.cjs <<'JS'
const compiled = new WebAssembly.Module(require("fs").readFileSync(process.argv[3]));
const { ratio, difference, root, argument } = new WebAssembly.Instance(compiled).exports;
const narrow = (value) => (value >>> 0).toString(16);
const wide = (value) => BigInt.asUintN(64, value).toString(16);
console.log(`node, ${process.argv[2]}:`, "ratio", narrow(ratio()), "difference",
  wide(difference()), "root", wide(root()), "argument", narrow(argument(0)));
JS
{
  venv/bin/python call.py plain plain.wasm
  node call.cjs plain plain.wasm
  for level in -O1 -O3 -Oz; do
    npx wasm-opt "$level" plain.wasm -o optimised.wasm
    venv/bin/python call.py "wasm-opt $level" optimised.wasm
    node call.cjs "wasm-opt $level" optimised.wasm
  done
} >seen

cat >expected <<'TXT'
wasmtime, plain: ratio ffc00000 difference fff8000000000000 root fff8000000000000 argument ffc00000
node, plain: ratio ffc00000 difference fff8000000000000 root fff8000000000000 argument ffc00000
wasmtime, wasm-opt -O1: ratio 7fc00000 difference 7ff8000000000000 root 7ff8000000000000 argument ffc00000
node, wasm-opt -O1: ratio 7fc00000 difference 7ff8000000000000 root 7ff8000000000000 argument ffc00000
wasmtime, wasm-opt -O3: ratio 7fc00000 difference 7ff8000000000000 root 7ff8000000000000 argument ffc00000
node, wasm-opt -O3: ratio 7fc00000 difference 7ff8000000000000 root 7ff8000000000000 argument ffc00000
wasmtime, wasm-opt -Oz: ratio 7fc00000 difference 7ff8000000000000 root 7ff8000000000000 argument ffc00000
node, wasm-opt -Oz: ratio 7fc00000 difference 7ff8000000000000 root 7ff8000000000000 argument ffc00000
TXT
if ! diff -u expected seen; then
  echo "changed: the optimiser or an engine answers with another NaN" >&2
  exit 1
fi
cat seen
echo "as recorded: optimising a module changes the sign of its NaN"
