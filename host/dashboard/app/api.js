// The API, as the dashboard asks it: with the session's cookie and the header that goes with it.

import { parse } from './exact.js';

/** What the daemon answered instead. */
export class Failure extends Error {
  constructor(status, body) {
    super(body.message ?? `the daemon answered ${status}`);
    Object.assign(this, { status, code: body.code ?? 'failed', hint: body.hint });
  }
}

let signedOut = () => {};

/** Sets what happens when the session is over. */
export function onSignedOut(handler) {
  signedOut = handler;
}

function unreachable(error) {
  if (error.name === 'AbortError') throw error;
  throw new Failure(0, { code: 'unreachable', message: 'the daemon does not answer' });
}

async function ask(method, path, { tenant, body, signal, key } = {}) {
  const headers = { 'Tallyman-Dashboard': '1' };
  if (tenant) headers['Tallyman-Tenant'] = tenant;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  if (key) headers['Idempotency-Key'] = key;
  const sent = body === undefined ? undefined : JSON.stringify(body);
  const asked = { method, headers, body: sent, signal, cache: 'no-store' };
  const answer = await fetch(path, asked).catch(unreachable);
  if (answer.ok) return answer;
  const text = await answer.text().catch(unreachable);
  let told = {};
  try {
    told = JSON.parse(text);
  } catch {
    told = { message: text.slice(0, 200) || undefined };
  }
  if (answer.status === 401 && path !== '/sessions') signedOut();
  throw new Failure(answer.status, told);
}

async function send(method, path, options) {
  const answer = await ask(method, path, options);
  return answer.text().catch(unreachable);
}

/** Facts behind the fact `after`, told as they are recorded, until the stream ends. */
export async function follow(after, told, options) {
  const answer = await ask('GET', `/events/stream?after=${after}`, options);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let partial = '';
  for (;;) {
    const { done, value } = await reader.read().catch(unreachable);
    if (done) return;
    const lines = (partial + value).split('\n');
    partial = lines.pop();
    const facts = lines.filter((line) => line.startsWith('data:'));
    if (facts.length) told(facts.map((line) => parse(line.slice(5))));
  }
}

const SELDOM_MS = 5 * 60_000;
const kept = new Map();

/** An answer that costs its tenant fuel: kept for five minutes, or until it is forgotten. */
function seldom(key, ask) {
  const known = kept.get(key);
  if (known && performance.now() - known.at < SELDOM_MS) return known.answer;
  const answer = ask();
  kept.set(key, { at: performance.now(), answer });
  answer.catch(() => kept.delete(key));
  return answer;
}

const invoice = (tenant) => `/tenants/${encodeURIComponent(tenant)}/invoice`;

/** What a close would make now. */
export const preview = (tenant, scope) =>
  seldom(invoice(tenant), () => get(invoice(tenant), { tenant: scope }));

/** What a close up to an instant would make. */
export function previewAt(tenant, scope, to) {
  const path = `${invoice(tenant)}/preview`;
  return seldom(path, () => act('POST', path, { tenant: scope, body: { to } }));
}

/** Forgets a tenant's previews, or those of all. */
export function forget(tenant) {
  if (!tenant) return kept.clear();
  kept.delete(invoice(tenant));
  kept.delete(`${invoice(tenant)}/preview`);
}

/** The text of an answer. */
export const text = (path, options) => send('GET', path, options);

/** An answer whose long numbers are texts. */
export const get = async (path, options) => parse(await send('GET', path, options));

/** A list whose numbers are all short, read the fast way. */
export const list = async (path, options) => JSON.parse(await send('GET', path, options));

/** An act. */
export async function act(method, path, options) {
  const answer = await send(method, path, options);
  return answer ? parse(answer) : null;
}

/** The lines of a log. */
export async function lines(path, options) {
  const events = (await send('GET', path, options)).split('\n');
  return events.filter((line) => line.startsWith('data:')).map((line) => JSON.parse(line.slice(5)));
}

/** Names and values of a text in the format of Prometheus, without labels or with them added up. */
export async function metrics(options) {
  const figures = new Map();
  for (const line of (await send('GET', '/metrics', options)).split('\n')) {
    const found = /^([a-z_:][a-z0-9_:]*)(?:\{[^}]*\})? ([\d.eE+-]+)$/i.exec(line);
    if (found) figures.set(found[1], (figures.get(found[1]) ?? 0) + Number(found[2]));
  }
  return figures;
}

/** Asks about several things, a few at a time, in their order. */
export async function each(things, ask, atOnce = 6) {
  const answers = new Array(things.length);
  let next = 0;
  const worker = async () => {
    while (next < things.length) {
      const at = next++;
      answers[at] = await ask(things[at]);
    }
  };
  await Promise.all(Array.from({ length: Math.min(atOnce, things.length) }, worker));
  return answers;
}
