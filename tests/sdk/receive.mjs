// A receiver of events, as its users write one: with the SDKs of CloudEvents and of Standard
// Webhooks.
//
// It prints its port, then one line of JSON for each request. The first FAIL requests are answered
// with 503.
import { createServer } from 'node:http';
import { HTTP } from 'cloudevents';
import { Webhook, WebhookVerificationError } from 'standardwebhooks';

const webhook = new Webhook(process.env.SECRET);
let leftToFail = Number(process.env.FAIL ?? 0);

const told = ({ id, source, type, subject, time, data }) => ({
  id,
  source,
  type,
  subject,
  time,
  data,
});

function received(headers, body) {
  const line = { message: headers['webhook-id'], status: 204, events: [] };
  try {
    webhook.verify(body, headers);
    line.events = [HTTP.toEvent({ headers, body })].flat().map(told);
  } catch (error) {
    if (!(error instanceof WebhookVerificationError)) throw error;
    Object.assign(line, { status: 401, error: error.message });
  }
  if (leftToFail > 0) {
    leftToFail -= 1;
    line.status = 503;
  }
  return line;
}

const server = createServer(async (request, response) => {
  const parts = [];
  for await (const part of request) parts.push(part);
  const line = received(request.headers, Buffer.concat(parts).toString());
  response.writeHead(line.status).end();
  console.log(JSON.stringify(line));
});
server.listen(Number(process.env.PORT ?? 0), '127.0.0.1', () =>
  console.log(server.address().port),
);
