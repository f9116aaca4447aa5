"""A receiver of events, as its users write one: with the SDKs of CloudEvents and of Standard Webhooks.

It prints its port, then one line of JSON for each request. The first FAIL requests are answered with 503.
"""

import json
import os
from http.server import BaseHTTPRequestHandler, HTTPServer

from cloudevents.core.bindings import http
from standardwebhooks import Webhook, WebhookVerificationError

SECRET = os.environ["SECRET"]
left_to_fail = int(os.environ.get("FAIL", "0"))


def told(event):
    at = event.get_time()
    return {
        "id": event.get_id(),
        "source": event.get_source(),
        "type": event.get_type(),
        "subject": event.get_subject(),
        "time": at and at.isoformat(),
        "data": event.get_data(),
    }


def events(headers, body):
    if "cloudevents-batch" in headers["content-type"]:
        single = {"content-type": "application/cloudevents+json"}
        bodies = [json.dumps(one).encode() for one in json.loads(body)]
        return [http.from_structured_event(http.HTTPMessage(single, one)) for one in bodies]
    return [http.from_http_event(http.HTTPMessage(headers, body))]


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self):
        global left_to_fail
        body = self.rfile.read(int(self.headers["content-length"]))
        headers = {name.lower(): value for name, value in self.headers.items()}
        line = {"message": headers.get("webhook-id"), "status": 204, "events": []}
        try:
            Webhook(SECRET).verify(body, headers)
            line["events"] = [told(event) for event in events(headers, body)]
        except WebhookVerificationError as error:
            line.update(status=401, error=str(error))
        if left_to_fail > 0:
            left_to_fail -= 1
            line["status"] = 503
        self.send_response(line["status"])
        self.end_headers()
        print(json.dumps(line), flush=True)

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", int(os.environ.get("PORT", "0"))), Receiver)
print(server.server_port, flush=True)
server.serve_forever()
