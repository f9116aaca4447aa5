#!/usr/bin/env bash
# Software:  promtool of Prometheus 2.42 (Debian 12, package prometheus).
# Input:     a text of metrics with one series twice, 5 and 7; one with 2^53 + 1; a test of rules
#            over a counter of 2^53, 2^53 + 1, 2^53 + 2 that expects a difference of 1.
# One would guess: `check metrics` says what a scrape would refuse or drop, and a test of rules that
#            is written in whole numbers counts in them.
# Seen:      the check exits 0 and prints nothing for the doubled series and for 2^53 + 1, while it
#            exits 3 for a missing HELP. The difference of 1 is 0 in the test, as in the server, so
#            nanoseconds of 105 days and more do not rise by one.
#            Output: "one series twice: exit 0, 0 lines", "2^53 + 1 - 2^53: 0E+00"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
apt-get download -qq prometheus >/dev/null 2>&1
dpkg -x ./*.deb root
tool=root/usr/bin/promtool
"$tool" --version 2>&1 | grep -oE 'version [0-9]+\.[0-9]+' | head -1 >seen

check() {
  local code=0
  "$tool" check metrics >said 2>&1 || code=$?
  echo "$1: exit $code, $(wc -l <said) lines"
}
{
  check "one series twice" <<'METRICS'
# HELP running_seconds_total Seconds.
# TYPE running_seconds_total counter
running_seconds_total{vm="1"} 5
running_seconds_total{vm="1"} 7
METRICS
  check "2^53 + 1" <<'METRICS'
# HELP running_seconds_total Seconds.
# TYPE running_seconds_total counter
running_seconds_total{vm="1"} 9007199254740993
METRICS
  check "no HELP" <<'METRICS'
# TYPE running_seconds_total counter
running_seconds_total{vm="1"} 5
METRICS
  cat >test.yml <<'YAML'
rule_files: []
evaluation_interval: 1m
tests:
  - interval: 1m
    input_series:
      - series: spent_total
        values: '9007199254740992 9007199254740993 9007199254740994'
    promql_expr_test:
      - expr: spent_total - 9007199254740992
        eval_time: 1m
        exp_samples:
          - value: 1
YAML
  "$tool" test rules test.yml >said 2>&1 || true
  echo "2^53 + 1 - 2^53: $(sed -nE 's/.*got: *\{\} *//p' said)"
} >>seen

cat >expected <<'TXT'
version 2.42
one series twice: exit 0, 0 lines
2^53 + 1: exit 0, 0 lines
no HELP: exit 3, 1 lines
2^53 + 1 - 2^53: 0E+00
TXT
if ! diff -u expected seen; then
  echo "changed: promtool checks or counts in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a doubled series passes the check"
