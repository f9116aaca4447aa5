#!/usr/bin/env bash
# Software:  Erlang/OTP 25 (Debian 12, package erlang-base), its own module calendar.
# Input:     the last fractions of a second of November 2026, read in four units; instants before
#            1970, read and written.
# One would guess: a coarser unit cuts what it can't hold, so November stays November, or it rounds
#            in each unit; and an instant before 1970 comes back as it was written.
# Seen:      in seconds the fraction is cut, in all other units it is rounded: 23:59:59.9999 is in
#            November by seconds and in December by milliseconds. Before 1970 the fraction is taken
#            off instead of added: a quarter of a second before 1970 is written as one after it, and
#            a text of 0.75 s before 1970 is read as 1.25 s before.
#            Output: "2026-11-30T23:59:59.9999Z: s 1796083199, ms 1796083200000"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq erlang-base >/dev/null 2>&1
dpkg -x ./*.deb root
export ROOTDIR="$dir/root/usr/lib/erlang" EMU=beam PROGNAME=erl
BINDIR=$(echo "$ROOTDIR"/erts-*/bin)
export BINDIR

"$BINDIR/erlexec" -noshell -noinput -eval '
  Read = fun(Text, Unit) -> calendar:rfc3339_to_system_time(Text, [{unit, Unit}]) end,
  Units = [second, millisecond, microsecond, nanosecond],
  [io:format("~s: s ~p, ms ~p, us ~p, ns ~p~n", [Text | [Read(Text, Unit) || Unit <- Units]])
   || Text <- ["2026-11-30T23:59:59.9999Z", "2026-11-30T23:59:59.9999999Z",
               "2026-11-30T23:59:59.999999999Z", "1970-01-01T00:00:00.25Z",
               "1969-12-31T23:59:59.25Z"]],
  [io:format("~p ns: ~s~n",
             [Time, calendar:system_time_to_rfc3339(Time, [{unit, nanosecond}, {offset, "Z"}])])
   || Time <- [1796083199999999999, 250000000, -250000000, -1]],
  halt().' >seen

cat >expected <<'TXT'
2026-11-30T23:59:59.9999Z: s 1796083199, ms 1796083200000, us 1796083199999900, ns 1796083199999900000
2026-11-30T23:59:59.9999999Z: s 1796083199, ms 1796083200000, us 1796083200000000, ns 1796083199999999900
2026-11-30T23:59:59.999999999Z: s 1796083199, ms 1796083200000, us 1796083200000000, ns 1796083199999999999
1970-01-01T00:00:00.25Z: s 0, ms 250, us 250000, ns 250000000
1969-12-31T23:59:59.25Z: s -1, ms -1250, us -1250000, ns -1250000000
1796083199999999999 ns: 2026-11-30T23:59:59.999999999Z
250000000 ns: 1970-01-01T00:00:00.250000000Z
-250000000 ns: 1970-01-01T00:00:00.250000000Z
-1 ns: 1970-01-01T00:00:00.000000001Z
TXT
if ! diff -u expected seen; then
  echo "changed: Erlang reads or writes fractions of a second in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: an instant's month depends on the unit in which it is read"
