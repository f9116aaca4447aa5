// What all views are made of.

import { Component, Fragment, createRef, h } from '../vendor/preact.mjs';
import htm from '../vendor/htm.module.js';
import { amount, instant, moment } from './exact.js';

export const html = htm.bind(h);
export { Component, Fragment, createRef };

export const PHASES = [
  'running',
  'initializing',
  'created',
  'paused',
  'shutdown',
  'standby',
  'stopped',
  'unknown',
];

/** The address of a view. */
export function address(view, parameters = {}) {
  const given = Object.entries(parameters).filter(([, value]) => value);
  const query = new URLSearchParams(given).toString();
  return `#/${view}${query ? `?${query}` : ''}`;
}

export const Phase = ({ phase }) =>
  html`<span class="phase"><span class="dot ${phase}"></span>${phase}</span>`;

export const Digest = ({ digest }) =>
  html`<code class="digest" title=${digest}>${digest.slice(0, 12)}</code>`;

/** An instant that the API wrote, in UTC. */
export const When = ({ at, digits = 0 }) =>
  at
    ? html`<time datetime=${at} title=${at}>${moment(instant(at), digits)}</time>`
    : html`<span>–</span>`;

export const Money = ({ value, currency }) => html`
  <span class="money" title=${value}>${amount(value)} <span class="unit">${currency ?? ''}</span>
    </span>`;

/** What went wrong, and what to do. */
export const Problem = ({ error }) => html`
  <div class="problem" role="alert">
    <strong>${error.message}</strong>
    ${error.hint && html`<p>${error.hint}</p>`}
  </div>`;

export const Empty = ({ children }) => html`<p class="empty">${children}</p>`;

/** A headed part of a view. */
export const Panel = ({ title, aside, children, className = '' }) => html`
  <section class="panel ${className}">
    <header><h2>${title}</h2>${aside && html`<div class="aside">${aside}</div>`}</header>
    ${children}
  </section>`;

const headed = (name, right) =>
  name ? html`<th scope="col" class=${right ? 'right' : ''}>${name}</th>` : html`<td></td>`;

/** A table that scrolls by itself on a narrow screen. `right` names the columns of numbers. */
export const Table = ({ label, head, right = [], children }) => html`
  <div class="scroll" tabindex="0" role="region" aria-label=${label}>
    <table>
      <thead><tr>${head.map((name, at) => headed(name, right.includes(at)))}</tr></thead>
      <tbody>${children}</tbody>
    </table>
  </div>`;

const ROW = 36;

/** A table of any length: only the rows that are seen exist. */
export class LongTable extends Component {
  box = createRef();
  state = { from: 0, count: 40 };

  componentDidMount() {
    this.look();
    this.watch = new ResizeObserver(() => this.look());
    this.watch.observe(this.box.current);
  }

  componentWillUnmount() {
    this.watch.disconnect();
  }

  look = () => {
    const box = this.box.current;
    const from = Math.max(0, Math.floor(box.scrollTop / ROW) - 8);
    const count = Math.ceil(box.clientHeight / ROW) + 16;
    if (from !== this.state.from || count !== this.state.count) this.setState({ from, count });
  };

  render({ label, head, right = [], rows, row }, { from, count }) {
    const start = Math.min(from, Math.max(0, rows.length - count));
    const seen = rows.slice(start, start + count);
    const above = start * ROW;
    const below = Math.max(0, rows.length - start - seen.length) * ROW;
    const space = (height) =>
      height > 0 &&
      html`<tr aria-hidden="true">
        <td class="space" colspan=${head.length} style=${{ height: `${height}px` }}></td></tr>`;
    return html`
      <div class="scroll long" ref=${this.box} onScroll=${this.look} tabindex="0" role="region"
        aria-label=${label}>
        <table aria-rowcount=${rows.length + 1}>
          <thead><tr>${head.map((name, at) => headed(name, right.includes(at)))}</tr></thead>
          <tbody>${space(above)}${seen.map((item, at) => row(item, start + at))}${space(below)}
            </tbody>
        </table>
      </div>`;
  }
}

/** A question with a reason, before something that changes money. */
export class Confirm extends Component {
  dialog = createRef();
  state = { reason: '', busy: false, error: null };

  componentDidMount() {
    this.dialog.current.showModal();
  }

  submit = async (event) => {
    event.preventDefault();
    this.setState({ busy: true, error: null });
    try {
      await this.props.act(this.state.reason.trim() || undefined);
      this.props.close(true);
    } catch (error) {
      this.setState({ busy: false, error });
    }
  };

  render({ title, children, action, close }, { reason, busy, error }) {
    return html`
      <dialog ref=${this.dialog} onClose=${() => close(false)} aria-labelledby="confirm-title">
        <form onSubmit=${this.submit}>
          <h2 id="confirm-title">${title}</h2>
          ${children}
          <label>Reason, for the journal
            <textarea rows="2" maxlength="1024" required value=${reason}
              onInput=${(event) => this.setState({ reason: event.target.value })}></textarea>
          </label>
          ${error && html`<${Problem} error=${error} />`}
          <footer>
            <button type="button" class="plain" onClick=${() => close(false)}>Cancel</button>
            <button type="submit" disabled=${busy || !reason.trim()}>${action}</button>
          </footer>
        </form>
      </dialog>`;
  }
}

/** A cell that looks for something when it is seen, and again when the journal has moved on. */
export class Seen extends Component {
  cell = createRef();

  componentDidMount() {
    this.watch = new IntersectionObserver((seen) => {
      this.seen = seen.at(-1).isIntersecting;
      if (this.seen) this.look();
    });
    this.watch.observe(this.cell.current);
  }

  componentDidUpdate({ head }) {
    if (this.seen && head !== this.props.head) this.look();
  }

  componentWillUnmount() {
    this.watch.disconnect();
  }
}

/** A view that loads something, and loads it again when the journal has moved on. */
export class Live extends Component {
  constructor(props) {
    super(props);
    this.state = { data: null, error: null };
    this.cost = 0;
  }

  componentDidMount() {
    this.reload();
  }

  componentDidUpdate(before) {
    const other = this.identity(before) !== this.identity(this.props);
    if (other) this.setState({ data: null, error: null });
    if (other || before.head !== this.props.head) this.reload();
  }

  componentWillUnmount() {
    this.abort?.abort();
    clearTimeout(this.later);
  }

  identity(props) {
    return JSON.stringify([props.tenant, props.id]);
  }

  // What takes long to load is loaded the less often.
  reload() {
    clearTimeout(this.later);
    const wait = Math.max(0, (this.ended ?? 0) + 4 * this.cost - performance.now());
    if (this.loading === this.identity(this.props) || (wait > 50 && this.state.data)) {
      this.later = setTimeout(() => this.reload(), Math.max(wait, 100));
      return;
    }
    this.fetch();
  }

  async fetch() {
    this.abort?.abort();
    const abort = (this.abort = new AbortController());
    const began = performance.now();
    this.loading = this.identity(this.props);
    try {
      const data = await this.load(this.props, abort.signal);
      if (!abort.signal.aborted) this.setState({ data, error: null });
    } catch (error) {
      if (!abort.signal.aborted && error.status !== 401) this.setState({ error });
    }
    if (this.abort === abort) {
      this.loading = null;
      this.ended = performance.now();
      this.cost = this.ended - began;
    }
  }

  render(props, { data, error }) {
    if (!data)
      return error
        ? html`<${Problem} error=${error} />`
        : html`<p class="loading" role="status">Loading…</p>`;
    return html`${error && html`<${Problem} error=${error} />`}${this.show(data, props)}`;
  }
}
