#!/usr/bin/env bash
# Software:  npm @hey-api/openapi-ts 0.95.0 with its plugins for types, transformers and zod
#            (zod 3.25.76), compiled by typescript 5.9.3.
# Input:     an OpenAPI 3.1 schema with an int64, an int64 with minimum 0 and a uint64; and a
#            response with 1793988000123456789 (nanoseconds of Nov 2026) in each.
# One would guess: bigint in the types means exact, or one rounding everywhere.
# Seen:      three generated modules, three readings, and none is right. Both readers get a number
#            that JSON.parse has rounded: the transformer goes through its shortest decimal text
#            (...800), zod converts the double itself (...768), so a value read by one is unequal to
#            the same value read by the other. uint64 is `number` in the types, is left alone by
#            the transformer, and is a bigint in zod. Nothing is raised, and bigint hides it.
#            Output: "transformer start bigint 1793988000123456800", "zod start bigint ...768"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact \
  @hey-api/openapi-ts@0.95.0 typescript@5.9.3 zod@3.25.76

cat >api.json <<'JSON'
{
  "openapi": "3.1.0",
  "info": {"title": "intervals", "version": "1"},
  "paths": {"/interval": {"get": {"operationId": "getInterval", "responses": {"200": {
    "description": "An interval.",
    "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Interval"}}}}}}}},
  "components": {"schemas": {"Interval": {
    "type": "object",
    "required": ["start", "end", "fact"],
    "properties": {
      "start": {"type": "integer", "format": "int64"},
      "end": {"type": "integer", "format": "int64", "minimum": 0},
      "fact": {"type": "integer", "format": "uint64", "minimum": 0}}}}}
}
JSON
npx openapi-ts -i api.json -o generated \
  -p @hey-api/typescript @hey-api/sdk @hey-api/transformers @hey-api/client-fetch zod >log 2>&1 ||
  { cat log >&2; exit 1; }

cat >read.cjs <<'JS'
const fs = require("fs");
const ts = require("typescript");
const load = (name) => {
  const source = fs.readFileSync(`generated/${name}.gen.ts`, "utf8");
  const options = { module: ts.ModuleKind.CommonJS, target: ts.ScriptTarget.ES2022 };
  const compiled = ts.transpileModule(source, { compilerOptions: options }).outputText;
  fs.writeFileSync(`${name}.cjs`, compiled);
  return require(`./${name}.cjs`);
};
const show = (who, value) => {
  for (const field of ["start", "end", "fact"]) {
    console.log(who, field, typeof value[field], String(value[field]));
  }
};
const exact = "1793988000123456789";
const text = `{"start":${exact},"end":${exact},"fact":${exact}}`;
(async () => {
  const types = fs.readFileSync("generated/types.gen.ts", "utf8");
  for (const field of ["start", "end", "fact"]) {
    console.log("types", field, types.match(new RegExp(`${field}: (\\w+);`))[1]);
  }
  const { getIntervalResponseTransformer } = load("transformers");
  const transformed = await getIntervalResponseTransformer(JSON.parse(text));
  show("transformer", transformed);
  const parsed = load("zod").zInterval.parse(JSON.parse(text));
  show("zod", parsed);
  console.log("transformer equals zod", transformed.start === parsed.start);
})();
JS
node read.cjs >seen

cat >expected <<'TXT'
types start bigint
types end bigint
types fact number
transformer start bigint 1793988000123456800
transformer end bigint 1793988000123456800
transformer fact number 1793988000123456800
zod start bigint 1793988000123456768
zod end bigint 1793988000123456768
zod fact bigint 1793988000123456768
transformer equals zod false
TXT
if ! diff -u expected seen; then
  echo "changed: a generated client reads 64-bit integers in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: bigint in the generated types, two unequal roundings at run time"
