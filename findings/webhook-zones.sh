#!/usr/bin/env bash
# Software:  PyPI standardwebhooks 1.1.0 and svix 2.9.1, npm standardwebhooks 1.1.1.
# Input:     one instant, as a datetime of UTC, of Berlin and of Calcutta, signed; a message that
#            was signed so and whose header has that instant's seconds, verified; the value that
#            verify returns.
# One would guess: an aware datetime is an instant, so the three signatures are equal; verify
#            returns the message, as in the library's other languages.
# Seen:      both Python packages take the clock's hands for UTC, whatever zone is with them: the
#            signature is of an instant one hour, or five and a half, later, and verify refuses what
#            sign has made unless the zone is UTC. What verify returns is the message parsed in
#            standardwebhooks, with nanoseconds rounded in JavaScript, and None in svix.
#            Output: "standardwebhooks, Europe/Berlin: signed 3600 s later, refused"
# Exit:      0 while this holds; 1 and the difference otherwise.
set -euo pipefail

dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"
python3 -m venv venv
venv/bin/pip install --quiet --disable-pip-version-check standardwebhooks==1.1.0 svix==2.9.1 \
  tzdata==2026.6
npm init -y >/dev/null
npm install --silent --no-audit --no-fund --save-exact standardwebhooks@1.1.1

cat >sign.py <<'PY'
import base64
import datetime
from zoneinfo import ZoneInfo
import standardwebhooks
import svix

SECRET = "whsec_" + base64.b64encode(b"a secret of a test").decode()
BODY = '{"ended":1793988000123456789}'

for package in (standardwebhooks, svix):
    hook = package.Webhook(SECRET)
    now = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0)
    for zone in ("UTC", "Europe/Berlin", "Asia/Calcutta"):
        # Berlin's distance from UTC depends on the day, so the one in November is told.
        winter = datetime.datetime(2026, 11, 30, 12, tzinfo=datetime.timezone.utc)
        signature = hook.sign("1", winter.astimezone(ZoneInfo(zone)), BODY)
        later = next(
            seconds for seconds in range(-50400, 50401, 900)
            if hook.sign("1", winter + datetime.timedelta(seconds=seconds), BODY) == signature)
        headers = {
            "webhook-id": "1",
            "webhook-timestamp": str(int(now.timestamp())),
            "webhook-signature": hook.sign("1", now.astimezone(ZoneInfo(zone)), BODY),
        }
        try:
            verdict = f"verified, returns {hook.verify(BODY, headers)}"
        except Exception as error:
            verdict = f"refused, {type(error).__name__}"
        print(f"{package.__name__}, {zone}: signed {later} s later, {verdict}")
PY
cat >sign.mjs <<'JS'
import { Webhook } from "standardwebhooks";
const hook = new Webhook("whsec_" + Buffer.from("a secret of a test").toString("base64"));
const body = '{"ended":1793988000123456789}';
const now = new Date();
const headers = {
  "webhook-id": "1",
  "webhook-timestamp": String(Math.floor(now.getTime() / 1000)),
  "webhook-signature": hook.sign("1", now, body),
};
console.log("js standardwebhooks: returns", JSON.stringify(hook.verify(body, headers)));
JS
{
  venv/bin/python sign.py
  node sign.mjs
} >seen

cat >expected <<'TXT'
standardwebhooks, UTC: signed 0 s later, verified, returns {'ended': 1793988000123456789}
standardwebhooks, Europe/Berlin: signed 3600 s later, refused, WebhookVerificationError
standardwebhooks, Asia/Calcutta: signed 19800 s later, refused, WebhookVerificationError
svix, UTC: signed 0 s later, verified, returns None
svix, Europe/Berlin: signed 3600 s later, refused, WebhookVerificationError
svix, Asia/Calcutta: signed 19800 s later, refused, WebhookVerificationError
js standardwebhooks: returns {"ended":1793988000123456800}
TXT
if ! diff -u expected seen; then
  echo "changed: a library for webhooks signs or verifies in another way" >&2
  exit 1
fi
cat seen
echo "as recorded: a zone other than UTC signs another instant"
