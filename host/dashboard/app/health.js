// Is everything billable? What keeps time from becoming money, by tenant, and how the host is.

import * as api from './api.js';
import { bytes } from './exact.js';
import { Live, Panel, Seen, Table, address, html } from './ui.js';

const GOOD = (text) => ({ good: true, text });
const BAD = (text) => ({ good: false, text });
const HIDDEN = { good: null, text: 'not for this role' };

async function told(question) {
  try {
    return { value: await question };
  } catch (error) {
    if (error.status === 0 || error.status === 401 || error.name === 'AbortError') throw error;
    return { error };
  }
}

const count = (found, what) => (found.length ? BAD(`${found.length} ${what}`) : GOOD('none'));

const Answer = ({ good, text }) => html`
  <span class=${good === null ? 'muted' : good ? 'good' : 'bad'}>
    ${good === null ? '–' : good ? '✓' : '!'} ${text}</span>`;

/** Time without prices or policy, which is looked for when the cell is seen, and seldom again. */
class Rated extends Seen {
  async look() {
    const { tenant, scope, found } = this.props;
    const { value, error } = await told(api.preview(tenant, scope)).catch((error) => ({ error }));
    if (error) return found(tenant, error.status === 403 ? HIDDEN : BAD(error.message));
    const unrated = value.documents.flatMap((one) => one.unrated);
    found(tenant, count(unrated, 'unrated periods'));
  }

  render({ answer }) {
    return html`<td ref=${this.cell}>${answer && html`<${Answer} ...${answer} />`}</td>`;
  }
}

export class Billable extends Live {
  state = { data: null, error: null, rated: {} };

  found = (tenant, answer) => {
    const { rated } = this.state;
    if (JSON.stringify(rated[tenant]) !== JSON.stringify(answer))
      this.setState(({ rated }) => ({ rated: { ...rated, [tenant]: answer } }));
  };

  async load({ tenant, tenants, scope }, signal) {
    const whose = tenant ? [tenant] : tenants;
    const rows = await api.each(
      whose,
      (one) => this.ask(one, scope === undefined ? undefined : one, signal),
      3,
    );
    const asked = { tenant: scope || undefined, signal };
    const [health, metrics, capabilities] = await Promise.all([
      told(api.get('/health', { signal })),
      told(api.metrics(asked)),
      told(api.get('/capabilities', asked)),
    ]);
    return { rows, health, metrics, capabilities };
  }

  identity({ tenant, tenants }) {
    return JSON.stringify([tenant, tenant ? 0 : tenants.length]);
  }

  async ask(tenant, scope, signal) {
    const asked = { tenant: scope, signal };
    const path = `/tenants/${encodeURIComponent(tenant)}`;
    const [invoices, instances, policy] = await Promise.all([
      told(api.get(`${path}/invoices`, asked)),
      told(api.list('/instances', asked)),
      told(api.get(`${path}/policy`, asked)),
    ]);
    return {
      tenant,
      scope,
      checks: [this.stale(invoices), this.degraded(instances), this.quarantined(policy)],
    };
  }

  stale({ value, error }) {
    if (error) return error.status === 403 ? HIDDEN : BAD(error.message);
    return count(
      value.invoices.filter((one) => one.stale),
      'documents; settle them',
    );
  }

  degraded({ value, error }) {
    if (error) return error.status === 403 ? HIDDEN : BAD(error.message);
    return count(
      value.filter((one) => one.accounting.status === 'degraded'),
      'instances',
    );
  }

  quarantined({ value, error }) {
    if (error) return error.status === 403 ? HIDDEN : BAD(error.message);
    return count(value.quarantined, 'policies');
  }

  tenants(rows) {
    const cell = (answer) => html`<td><${Answer} ...${answer} /></td>`;
    const { rated } = this.state;
    const { head } = this.props;
    return html`
      <${Panel} title="Tenants">
        <${Table} label="What keeps time from becoming money"
          head=${['Tenant', 'Unrated', 'Stale', 'Degraded', 'Quarantined']}>
          ${rows.map(
            ({ tenant, scope, checks }) => html`<tr><th scope="row">
            <a href=${address('bill', { tenant: scope })}>${tenant}</a></th>
            <${Rated} tenant=${tenant} scope=${scope} head=${head} answer=${rated[tenant]}
              found=${this.found} />
            ${checks.map(cell)}</tr>`,
          )}
        <//>
      <//>`;
  }

  host({ health, metrics, capabilities }) {
    const figures = metrics.value;
    const zero = (name, what) => {
      if (!figures) return HIDDEN;
      const value = figures.get(name);
      return value === undefined
        ? { good: null, text: 'not told' }
        : value
          ? BAD(`${value} ${what}`)
          : GOOD('none');
    };
    const disk = () => {
      const [free, all] = [
        figures?.get('tallyman_disk_free_bytes'),
        figures?.get('tallyman_disk_size_bytes'),
      ];
      if (free === undefined || !all) return { good: null, text: 'not told' };
      const text = `${bytes(free)} of ${bytes(all)} free`;
      return free / all > 0.1 ? GOOD(text) : BAD(text);
    };
    const waiting = figures?.get('tallyman_journal_waiting');
    const seen = health.value;
    const available =
      capabilities.value?.hypervisors
        .filter((one) => one.available)
        .map((one) => `${one.name} ${one.version ?? ''}`.trim()) ?? [];
    const rows = [
      [
        'Facts are recorded',
        waiting === undefined
          ? HIDDEN
          : waiting
            ? BAD('another program holds the database')
            : GOOD('yes'),
      ],
      ['Disk', disk()],
      [
        'Quarantined policies that need somebody',
        seen ? (seen.alerts ? BAD(String(seen.alerts)) : GOOD('none')) : HIDDEN,
      ],
      ['Machines on no record', zero('tallyman_stray_processes', 'processes; the log names them')],
      [
        'Folders set aside',
        seen
          ? seen.set_aside
            ? BAD(`${seen.set_aside}; look into set-aside`)
            : GOOD('none')
          : HIDDEN,
      ],
      ['Hypervisors', available.length ? GOOD(available.join(', ')) : BAD('none is available')],
    ];
    return html`
      <${Panel} title="Host">
        <${Table} label="The host" head=${['Question', 'Answer']}>
          ${rows.map(
            ([name, answer]) => html`<tr><th scope="row">${name}</th>
            <td><${Answer} ...${answer} /></td></tr>`,
          )}
        <//>
      <//>`;
  }

  journal(head) {
    return html`
      <${Panel} title="Journal" aside=${head && `${head.seq.toLocaleString('en-US')} facts`}>
        <p class="hash">${head ? html`Head <code>${head.hash}</code>` : '…'}</p>
        <p class="note">Whoever notes it elsewhere can tell later whether the end was
          cut off. <code>tallyman journal verify</code> walks the whole chain.</p>
      <//>`;
  }

  show(data, { journal }) {
    const rated = data.rows.map(({ tenant }) => this.state.rated[tenant]).filter(Boolean);
    const all = [...rated, ...data.rows.flatMap((one) => one.checks)];
    const bad = all.filter((one) => one.good === false).length;
    const verdict = bad
      ? `No: ${bad} things need somebody.`
      : 'Yes: all time that was asked about becomes money.';
    return html`
      <h1>Is everything billable?</h1>
      <p class="verdict ${bad ? 'bad' : 'good'}" role="status">
        ${verdict}</p>
      ${this.tenants(data.rows)}
      ${this.host(data)}
      ${this.journal(journal)}`;
  }
}
