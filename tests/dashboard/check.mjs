// The dashboard of a running daemon, in Chromium, as people use it.
//
// Told by the environment: the daemon's address and tokens, what is on it, and where pictures go.
// Each problem is a line; there is none, or the exit status is 1.

import { readFile } from 'node:fs/promises';
import { chromium } from 'playwright-core';

const told = JSON.parse(process.env.DASHBOARD);
const axe = await readFile(new URL('node_modules/axe-core/axe.min.js', import.meta.url), 'utf8');
const problems = [];
const problem = (text) => problems.push(text);
const expect = (right, text) => right || problem(text);

const browser = await chromium.launch({
  executablePath: told.chromium,
  args: ['--no-sandbox', '--disable-dev-shm-usage'],
});

/** A page whose every complaint is a problem. */
async function open(name, options) {
  const context = await browser.newContext({ viewport: { width: 1400, height: 900 }, ...options });
  const page = await context.newPage();
  page.setDefaultTimeout(30_000);
  page.on('pageerror', (error) => problem(`${name}: ${error.message}`));
  page.on('console', (message) => {
    const expected = name === 'sign-in' && /status of 40[01]/.test(message.text());
    if (['error', 'warning'].includes(message.type()) && !expected && !page.quiet)
      problem(`${name}: console: ${message.text()}`);
  });
  page.on('request', (request) =>
    expect(request.url().startsWith(told.url), `${name}: asked another host: ${request.url()}`),
  );
  await page.addInitScript(() => {
    addEventListener('securitypolicyviolation', (event) =>
      console.error(`policy: ${event.violatedDirective} ${event.blockedURI}`),
    );
  });
  page.name = name;
  return page;
}

async function accessible(page, where) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(() =>
    axe.run(document, { resultTypes: ['violations'] }),
  );
  for (const { id, help, nodes } of violations)
    problem(
      `${page.name} ${where}: ${id}: ${help}: ${nodes
        .slice(0, 3)
        .map((node) => node.html)
        .join(' ')}`,
    );
}

async function signIn(page, token) {
  await page.goto(told.url);
  await page.getByLabel('Token').fill(token);
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByRole('button', { name: 'Sign out' }).waitFor();
}

const api = async (path, token = told.token) =>
  (
    await fetch(told.url + path, {
      headers: { authorization: `Bearer ${token}`, 'tallyman-tenant': told.tenant },
    })
  ).json();

const VIEWS = {
  fleet: ['', 'Fleet', 'vm-1'],
  machine: [`?tenant=${told.tenant}&id=${told.instance}`, 'vm-1', 'adds up to the nanosecond'],
  bill: [`?tenant=${told.tenant}`, 'Bill', 'Invoice 1'],
  policies: [`?tenant=${told.tenant}`, 'Policies', 'coarse'],
  billable: ['', 'Is everything billable?', 'Facts are recorded'],
};

async function visit(page, view) {
  const [query, heading, words] = VIEWS[view];
  await page.goto(`${told.url}/#/${view}${query}`);
  await page.getByRole('heading', { level: 1, name: heading }).waitFor();
  await page.getByText(words).first().waitFor();
}

/** A token that is wrong, one that is right, and where it is kept. */
async function door() {
  const page = await open('sign-in', {});
  await page.goto(told.url);
  await page.getByLabel('Token').fill('wrong');
  await page.getByRole('button', { name: 'Sign in' }).click();
  await page.getByText('This token is not good here.').waitFor();
  await accessible(page, 'door');
  await signIn(page, told.token);
  const [cookie] = await page.context().cookies();
  expect(
    cookie.httpOnly && cookie.sameSite === 'Strict',
    `the cookie is ${JSON.stringify(cookie)}`,
  );
  expect(!cookie.value.includes(told.token), 'the token is in the cookie');
  const kept = await page.evaluate(
    () => document.cookie + JSON.stringify({ ...localStorage, ...sessionStorage }),
  );
  expect(!kept.includes(told.token), 'the token is where scripts find it');
  const bare = await page.context().request.get(`${told.url}/tenants`);
  expect(bare.status() === 401, `a cookie alone was believed: ${bare.status()}`);
  await page.getByRole('button', { name: 'Sign out' }).click();
  await page.getByLabel('Token').waitFor();
  await page.reload();
  await page.getByLabel('Token').waitFor();
  const late = await fetch(`${told.url}/tenants`, {
    headers: { cookie: `${cookie.name}=${cookie.value}`, 'tallyman-dashboard': '1' },
  });
  expect(late.status === 401, `a session that ended was believed: ${late.status}`);
  await page.context().close();
}

/** Every view in each kind of light and on a narrow screen. */
async function views() {
  for (const [name, options] of Object.entries({
    light: { colorScheme: 'light' },
    dark: { colorScheme: 'dark' },
    narrow: { colorScheme: 'light', viewport: { width: 390, height: 844 } },
  })) {
    const page = await open(name, options);
    await signIn(page, told.token);
    for (const view of Object.keys(VIEWS)) {
      await visit(page, view);
      await accessible(page, view);
      const wide = await page.evaluate(() => document.documentElement.scrollWidth > innerWidth);
      expect(!wide, `${name} ${view}: wider than the screen`);
      if (told.pictures)
        await page.screenshot({ path: `${told.pictures}/${view}-${name}.png`, fullPage: true });
    }
    await page.context().close();
  }
}

async function fleet(page) {
  await visit(page, 'fleet');
  await page.keyboard.press('/');
  await page.keyboard.type('vm-2');
  await page.getByText(/^1 of /).waitFor();
  expect(
    (await page.getByRole('link', { name: 'vm-1' }).count()) === 0,
    'the filter hides nothing',
  );
  await page.getByRole('heading', { name: 'Fleet' }).click();
  await page.keyboard.press('2');
  await page.getByRole('heading', { level: 1, name: 'Bill' }).waitFor();
}

const exact = (ns) => {
  const text = String(ns).padStart(10, '0');
  return `${BigInt(text.slice(0, -9)).toLocaleString('en-US')}.${text.slice(-9)} s`;
};

/** The machine rests, so that page and API speak of the same instant. */
async function machine(page) {
  await visit(page, 'machine');
  const { totals_ns, intervals } = await api(`/instances/${told.instance}/intervals`);
  const shown = await page.getByRole('region', { name: 'Time in each phase' }).innerText();
  for (const [phase, ns] of Object.entries(totals_ns)) {
    if (intervals.at(-1).phase === phase) continue;
    expect(shown.includes(exact(ns)), `${phase}: ${exact(ns)} is not in: ${shown}`);
  }
  const canvas = page.locator('.timeline canvas');
  const colours = await canvas.evaluate((canvas) => {
    const { data } = canvas
      .getContext('2d')
      .getImageData(0, Math.round(78 * devicePixelRatio), canvas.width, 1);
    return new Set(
      Array.from({ length: canvas.width }, (_, x) => data.slice(4 * x, 4 * x + 3).join()),
    ).size;
  });
  expect(colours >= 3, `the timeline has ${colours} colours`);
  await page.locator('.timeline').focus();
  for (let times = 0; times < 45; times += 1) await page.keyboard.press('+');
  const near = await page.locator('.shown').innerText();
  expect(/, \d+ ns$/.test(near), `the closest look is ${near}`);
  await page.keyboard.press('0');
  const far = await page.locator('.shown').innerText();
  expect(!/ ns$/.test(far), `the whole life is ${far}`);
  await page.getByRole('button', { name: 'Show interval 2' }).click();
  await page.locator('tr.selected').waitFor();
}

async function bill(page) {
  await visit(page, 'bill');
  const { documents } = await api(`/tenants/${told.tenant}/invoice`);
  expect(documents.length > 0, 'there is nothing so far');
  await page.locator('.big').first().waitFor();
  await page
    .getByText(/^\d+ lines$/)
    .first()
    .click();
  await page
    .getByRole('button', { name: /^▸ \d+$/ })
    .first()
    .click();
  await page.getByRole('region', { name: /^Time of line/ }).waitFor();
  await page.getByRole('button', { name: '▸ Invoice 1' }).click();
  const chapter = page.locator('.chapter').first();
  await chapter
    .getByRole('button', { name: /^▸ \d+$/ })
    .first()
    .click();
  await chapter.getByRole('region', { name: /^Time of line/ }).waitFor();
  await chapter.getByRole('button', { name: 'Prove this' }).click();
  await chapter.getByText('Proved byte for byte').waitFor({ timeout: 60_000 });
  await accessible(page, 'an open document');
  if (told.pictures)
    await page.screenshot({ path: `${told.pictures}/document.png`, fullPage: true });
}

async function policies(page) {
  const force = async () => (await api(`/tenants/${told.tenant}/policy`)).digest;
  const before = await force();
  await visit(page, 'policies');
  await page.getByRole('heading', { name: 'On trial' }).waitFor();
  await page.getByRole('button', { name: 'Activate coarse' }).click();
  const dialog = page.getByRole('dialog');
  expect(
    await dialog.getByRole('button', { name: 'Activate' }).isDisabled(),
    'no reason is needed',
  );
  await accessible(page, 'a question');
  await page.keyboard.press('Escape');
  await dialog.waitFor({ state: 'detached' });
  expect((await force()) === before, 'Escape has activated it');
  await page.getByRole('button', { name: 'Activate coarse' }).click();
  await dialog.getByLabel('Reason').fill('tried long enough');
  await dialog.getByRole('button', { name: 'Activate' }).click();
  await page.getByText(/^In force from/).waitFor();
  expect((await force()) === told.coarse, 'it is not in force');
  await page.getByRole('button', { name: 'Roll back …' }).click();
  await dialog.getByLabel('Reason').fill('a second thought');
  await dialog.getByRole('button', { name: 'Roll back' }).click();
  await dialog.waitFor({ state: 'detached' });
  expect((await force()) === before, 'it was not rolled back');
}

const create = (name) =>
  fetch(`${told.url}/instances`, {
    method: 'POST',
    body: JSON.stringify({ name, image: 'tiny' }),
    headers: {
      authorization: `Bearer ${told.token}`,
      'tallyman-tenant': told.tenant,
      'content-type': 'application/json',
    },
  });

/** What changes is shown without anybody's doing. */
async function live(page) {
  await visit(page, 'fleet');
  await create('late');
  await page.getByRole('link', { name: 'late' }).waitFor();
}

/** What costs a tenant fuel is not asked for again with each fact. */
async function seldom(page) {
  const path = `/tenants/${told.tenant}/invoice`;
  let asked = 0;
  page.on('request', (request) => (asked += request.url().endsWith(path) ? 1 : 0));
  const waits = page.waitForResponse((answer) => answer.url().endsWith('/prices'));
  await visit(page, 'bill');
  await waits;
  const known = asked;
  for (const name of ['seldom-1', 'seldom-2']) {
    const again = page.waitForResponse((answer) => answer.url().endsWith('/prices'));
    await create(name);
    await again;
  }
  await visit(page, 'billable');
  await page.getByText('✓ none').first().waitFor();
  expect(asked === known, `the preview was asked for ${asked - known} times without need`);
  await visit(page, 'bill');
  const fresh = page.waitForResponse((answer) => answer.url().endsWith(path));
  await page.getByRole('button', { name: 'Look again' }).click();
  await fresh;
}

/** Roles see what they may, and no buttons that they may not press. */
async function roles() {
  const page = await open('reader', {});
  await signIn(page, told.reader);
  await page.goto(`${told.url}/#/policies`);
  await page.getByRole('region', { name: 'Policies' }).waitFor();
  expect(
    (await page.getByRole('button', { name: /Activate|Roll back/ }).count()) === 0,
    'a reader may activate',
  );
  expect(
    (await page.getByRole('combobox', { name: 'Tenant' }).count()) === 0,
    'a reader may choose a tenant',
  );
  await page.context().close();
}

/** Ten thousand instances and a hundred thousand intervals, made up; the page is looked at. */
async function many() {
  const page = await open('many', {});
  await signIn(page, told.token);
  const [one] = (await api('/instances')).filter(({ id }) => id === told.instance);
  const fleet = JSON.stringify(
    Array.from({ length: 10_000 }, (_, at) => ({
      ...one,
      id: `${one.id}-${at}`,
      name: `many-${at}`,
    })),
  );
  await page.route('**/instances', (route) =>
    route.fulfill({ contentType: 'application/json', body: fleet }),
  );
  let began = Date.now();
  await page.goto(`${told.url}/#/fleet?tenant=${told.tenant}`);
  await page.getByText('10,000 of 10,000').waitFor();
  console.log(`10,000 instances are shown after ${Date.now() - began} ms`);
  expect((await page.locator('tbody tr').count()) < 200, 'all rows of a long table exist');
  await page.getByRole('region', { name: 'Instances', exact: true }).evaluate((box) => {
    box.scrollTop = box.scrollHeight;
  });
  await page.getByRole('link', { name: 'many-9999' }).waitFor();
  await page.unroute('**/instances');

  const account = await api(`/instances/${told.instance}/intervals`);
  const [first] = account.intervals;
  const begin = 1_750_000_000_000_000_000n;
  const texts = Array.from({ length: 100_000 }, (_, at) => {
    const start = begin + BigInt(at) * 26_000_000_000n;
    const copy = {
      ...first,
      phase: ['running', 'standby', 'paused'][at % 3],
      start_ns: `${start}`,
      end_ns: `${start + 26_000_000_000n}`,
    };
    return JSON.stringify(copy).replace(/"(\d{16,})"/g, '$1');
  });
  const body = JSON.stringify({ ...account, intervals: [] }).replace(
    '"intervals":[]',
    `"intervals":[${texts.join()}]`,
  );
  await page.route('**/intervals', (route) =>
    route.fulfill({ contentType: 'application/json', body }),
  );
  await page.goto(`${told.url}/#/machine?tenant=${told.tenant}&id=${told.instance}`);
  await page.getByText('100,000 intervals, UTC').waitFor();
  const session = await page.context().newCDPSession(page);
  await session.send('Performance.enable');
  const busy = async () =>
    Object.fromEntries(
      (await session.send('Performance.getMetrics')).metrics.map(({ name, value }) => [
        name,
        value,
      ]),
    );
  await page.locator('.timeline').focus();
  const before = await busy();
  const frames = await page.evaluate(async () => {
    const line = document.querySelector('.timeline');
    const frame = () => new Promise(requestAnimationFrame);
    for (let at = 0; at < 120; at += 1) {
      line.dispatchEvent(
        new KeyboardEvent('keydown', {
          key: at % 40 < 20 ? ['+', 'ArrowRight'][at % 2] : ['-', 'ArrowLeft'][at % 2],
          bubbles: true,
        }),
      );
      await frame();
    }
    return 120;
  });
  const after = await busy();
  const each =
    (['ScriptDuration', 'LayoutDuration', 'RecalcStyleDuration'].reduce(
      (sum, name) => sum + after[name] - before[name],
      0,
    ) *
      1000) /
    frames;
  console.log(`100,000 intervals: ${each.toFixed(2)} ms of script, style and layout a frame`);
  expect(each < 8, `a frame of the timeline takes ${each} ms`);
  await page.context().close();
}

const page = await open('use', {});
const steps = {
  door,
  views,
  signIn: () => signIn(page, told.token),
  fleet: () => fleet(page),
  machine: () => machine(page),
  bill: () => bill(page),
  policies: () => policies(page),
  live: () => live(page),
  seldom: () => seldom(page),
  roles,
  many,
};
for (const [name, step] of Object.entries(steps)) {
  await step().catch((error) => problem(`${name}: ${error.stack ?? error}`));
}
await browser.close();
console.log(
  problems.length ? problems.join('\n') : `${Object.keys(steps).length} steps without a problem`,
);
process.exit(problems.length ? 1 : 0);
