#!/usr/bin/env bash
# Software:  lua-cjson 2.1.0 under Lua 5.3 (Debian 12), the JSON of many gateways and loggers.
# Input:     an instant in nanoseconds, 2^53 - 1, an account of 15 digits and an amount with six
#            places, decoded and encoded again; the same from Lua's own integers; and the module's
#            setting for digits.
# One would guess: Lua 5.3 has integers of 64 bits, so they pass; at worst they go as doubles, with
#            the 17 digits that a double needs.
# Seen:      all numbers are written with 14 digits, Lua's integers too: an instant is moved by up
#            to 50 microseconds, 2^53 - 1 is 9.007199254741e+15, an account of 15 digits is another
#            one, and so is an amount from a hundred million with six places. The setting refuses
#            more than 14.
#            Output: "account 123456789012345: [1.2345678901234e+14]"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq lua5.3 lua-cjson >/dev/null 2>&1
for package in ./*.deb; do
  dpkg -x "$package" root
done
export LUA_CPATH="$dir/root/usr/lib/x86_64-linux-gnu/lua/5.3/?.so"

cat >digits.lua <<'LUA'
local cjson = require("cjson")
print("version " .. cjson._VERSION)
for _, case in ipairs({
  { "instant", "1793988000123456789", 1793988000123456789 },
  { "2^53 - 1", "9007199254740991", 9007199254740991 },
  { "account", "123456789012345", 123456789012345 },
  { "account", "12345678901234", 12345678901234 },
  { "amount", "123456789.123456", 123456789.123456 },
}) do
  local name, text, number = table.unpack(case)
  local read = cjson.decode("[" .. text .. "]")
  print(name .. " " .. text .. ": " .. cjson.encode(read) .. ", from Lua "
    .. cjson.encode({ number }))
  if name == "instant" then
    print("read as " .. math.type(read[1]) .. ", off by " .. math.tointeger(
      cjson.decode(cjson.encode(read))[1]) - number .. " ns when read again")
  end
end
for _, digits in ipairs({ 14, 15, 17 }) do
  print(digits .. " digits: " .. (pcall(cjson.encode_number_precision, digits)
    and "taken" or "refused"))
end
LUA
root/usr/bin/lua5.3 digits.lua >seen

cat >expected <<'TXT'
version 2.1.0
instant 1793988000123456789: [1.7939880001235e+18], from Lua [1.7939880001235e+18]
read as float, off by 43243 ns when read again
2^53 - 1 9007199254740991: [9.007199254741e+15], from Lua [9.007199254741e+15]
account 123456789012345: [1.2345678901234e+14], from Lua [1.2345678901234e+14]
account 12345678901234: [12345678901234], from Lua [12345678901234]
amount 123456789.123456: [123456789.12346], from Lua [123456789.12346]
14 digits: taken
15 digits: refused
17 digits: refused
TXT
if ! diff -u expected seen; then
  echo "changed: lua-cjson writes numbers with other digits" >&2
  exit 1
fi
cat seen
echo "as recorded: 14 digits of everything, and no setting for more"
