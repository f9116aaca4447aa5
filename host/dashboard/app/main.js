// The frame: who is signed in, which view is open, and when there is something new.

import { render } from '../vendor/preact.mjs';
import * as api from './api.js';
import { Component, Problem, address, html } from './ui.js';
import { Fleet } from './fleet.js';
import { Machine } from './machine.js';
import { Bill } from './bill.js';
import { Policies } from './policies.js';
import { Billable } from './health.js';

const VIEWS = {
  fleet: {
    name: 'Fleet',
    view: Fleet,
    all: true,
    roles: ['operator', 'tenant-admin', 'tenant-reader'],
  },
  machine: { view: Machine, under: 'fleet' },
  bill: { name: 'Bill', view: Bill },
  policies: { name: 'Policies', view: Policies },
  billable: { name: 'Billable?', view: Billable, all: true },
};
const AGAIN_MS = 2_000;
const SELDOM_MS = 10_000;
const CALM_MS = 1_000;

function place() {
  const [view, query] = location.hash.replace(/^#\//, '').split('?');
  const { tenant = '', id = '', ...rest } = Object.fromEntries(new URLSearchParams(query));
  return { view: VIEWS[view] ? view : null, tenant, id, rest };
}

const WRONG = 'This token is not good here.';

class SignIn extends Component {
  state = { error: null, busy: false };

  submit = async (event) => {
    event.preventDefault();
    const token = new FormData(event.target).get('token').trim();
    this.setState({ busy: true, error: null });
    try {
      this.props.done(await api.act('POST', '/sessions', { body: { token } }));
    } catch (error) {
      this.setState({ busy: false, error });
    }
  };

  render(_, { error, busy }) {
    return html`
      <main class="sign-in">
        <form onSubmit=${this.submit}>
          <h1><span class="mark" aria-hidden="true"></span>Tallyman</h1>
          <label>Token
            <input name="token" type="password" autocomplete="current-password" required autofocus
              spellcheck="false" />
          </label>
          ${
            error &&
            html`<${Problem}
            error=${{ message: error.status === 401 ? WRONG : error.message }} />`
          }
          <button disabled=${busy}>Sign in</button>
          <p class="hint">The operator's token is the content of <code>token</code> in the daemon's
            data folder; <code>tallyman token create</code> makes others.</p>
        </form>
      </main>`;
  }
}

class App extends Component {
  state = {
    session: undefined,
    tenants: [],
    head: null,
    place: place(),
    lost: false,
    theme: localStorage.getItem('theme') ?? 'auto',
  };

  async componentDidMount() {
    api.onSignedOut(() => this.setState({ session: null }));
    addEventListener('hashchange', () =>
      this.setState({ place: place() }, () => document.getElementById('main')?.focus()),
    );
    addEventListener('keydown', this.key);
    document.addEventListener('visibilitychange', () => this.follow());
    this.paint();
    // Whether there may be a session; the cookie itself is out of reach.
    if (!localStorage.getItem('signed-in')) return this.setState({ session: null });
    await api.get('/sessions/current').then(
      (session) => this.begin(session),
      () => this.setState({ session: null }),
    );
  }

  async begin(session) {
    localStorage.setItem('signed-in', '1');
    this.setState({ session });
    const tenants = await api.get('/tenants').catch(() => []);
    this.setState({ tenants: tenants.map((tenant) => tenant.id) });
    this.follow();
  }

  // New facts are what makes everything new. A page that nobody sees follows none.
  async follow() {
    clearTimeout(this.timer);
    this.following?.abort();
    if (!this.state.session || document.hidden) return;
    const { signal } = (this.following = new AbortController());
    let wait = AGAIN_MS;
    try {
      const head = await api.get('/journal/head', { signal });
      this.moved(head);
      await api.follow(head.seq, (facts) => this.moved(facts.at(-1)), { signal });
    } catch (error) {
      if (signal.aborted) return;
      // Some roles may not read facts: they see the end of the journal move.
      if (error.status === 403) wait = SELDOM_MS;
      else this.setState({ lost: error.status !== 401 });
    }
    if (!signal.aborted) this.timer = setTimeout(() => this.follow(), wait);
  }

  // Many facts in a second are one change.
  moved({ seq, hash }) {
    this.next = { seq, hash };
    if (this.calm) return;
    const show = () => {
      const { head, lost } = this.state;
      if (lost || this.next.seq !== head?.seq) this.setState({ head: this.next, lost: false });
    };
    show();
    this.calm = setTimeout(() => {
      this.calm = null;
      if (this.state.session) show();
    }, CALM_MS);
  }

  key = (event) => {
    if (
      event.ctrlKey ||
      event.metaKey ||
      event.altKey ||
      /^(INPUT|TEXTAREA|SELECT)$/.test(event.target.tagName)
    )
      return;
    if (document.querySelector('dialog[open]')) return;
    const view = this.shown()[Number(event.key) - 1];
    if (view) location.hash = address(view[0], { tenant: this.state.place.tenant });
    else if (event.key === '/') {
      const filter = document.querySelector('input[type=search]');
      if (filter) (event.preventDefault(), filter.focus());
    }
  };

  shown() {
    const role = this.state.session?.role;
    return Object.entries(VIEWS).filter(
      ([, { name, roles }]) => name && (!roles || roles.includes(role)),
    );
  }

  paint() {
    const { theme } = this.state;
    if (theme === 'auto') delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }

  setTheme = (event) => {
    const theme = event.target.value;
    localStorage.setItem('theme', theme);
    this.setState({ theme }, () => this.paint());
  };

  signOut = async () => {
    await api.act('DELETE', '/sessions/current').catch(() => null);
    localStorage.removeItem('signed-in');
    this.following?.abort();
    api.forget();
    this.setState({ session: null, head: null });
  };

  frame(name, tenant) {
    const { session, tenants, theme, head } = this.state;
    const open = VIEWS[name].under ?? name;
    const operator = session.role === 'operator';
    const choose = (event) => {
      location.hash = address(open, { tenant: event.target.value });
    };
    const option = (id) => html`<option value=${id} selected=${id === tenant}>${id}</option>`;
    return html`
      <header class="top">
        <a class="brand" href=${address('fleet')}><span class="mark" aria-hidden="true">
          </span>Tallyman</a>
        <nav aria-label="Views">
          ${this.shown().map(
            ([view, { name }]) => html`<a href=${address(view, { tenant })}
            aria-current=${view === open ? 'page' : undefined}>${name}</a>`,
          )}
        </nav>
        <div class="who">
          ${
            operator
              ? html`<label><span class="hidden">Tenant</span>
                <select onChange=${choose} value=${tenant}>
                  ${
                    VIEWS[open].all
                      ? html`<option value=""
                    selected=${!tenant}>All tenants</option>`
                      : html`<option value=""
                    selected=${!tenant}>default</option>`
                  }
                  ${tenants.filter((id) => VIEWS[open].all || id !== 'default').map(option)}
                </select></label>`
              : html`<span class="tenant">${session.tenant}</span>`
          }
          <label><span class="hidden">Colours</span>
            <select onChange=${this.setTheme} value=${theme}>
              ${['auto', 'light', 'dark'].map(
                (one) => html`<option value=${one}
                selected=${one === theme}>${one}</option>`,
              )}
            </select></label>
          <span class="role" title="fact ${head?.seq ?? '–'}, version ${session.version}">
            ${session.role}</span>
          <button class="plain" onClick=${this.signOut}>Sign out</button>
        </div>
      </header>`;
  }

  render(_, { session, place, head, lost, tenants }) {
    if (session === undefined)
      return html`<main class="sign-in"><p class="loading" role="status">Loading…</p></main>`;
    if (session === null) return html`<${SignIn} done=${(session) => this.begin(session)} />`;
    const name = place.view ?? this.shown()[0][0];
    const { view, all } = VIEWS[name];
    const operator = session.role === 'operator';
    const tenant = operator ? place.tenant || (all ? '' : 'default') : session.tenant;
    const scope = operator ? tenant : undefined;
    return html`
      ${this.frame(name, place.tenant)}
      ${
        lost &&
        html`<div class="lost"
        role="status">The daemon does not answer; what is shown is from before.</div>`
      }
      <main id="main" tabindex="-1" key=${name}>
        <${view} session=${session} tenant=${tenant} scope=${scope} id=${place.id}
          rest=${place.rest} tenants=${operator ? tenants : [session.tenant]} head=${head?.seq}
          journal=${head} />
      </main>`;
  }
}

render(html`<${App} />`, document.getElementById('root'));
