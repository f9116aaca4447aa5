// The fleet now: what runs, what sleeps and what crashed, by tenant and phase.

import * as api from './api.js';
import { bytes, instant, roughly } from './exact.js';
import { LastHour } from './spent.js';
import { Empty, Live, LongTable, PHASES, Panel, Phase, Table, address, html } from './ui.js';

const CRASHES = new Set(['crashed', 'host-lost', 'launch-failed', 'unhealthy']);
const ALWAYS = ['running', 'standby', 'stopped'];
const phaseOf = (one) => one.state.toLowerCase();
const crashed = (one) => one.state === 'Stopped' && CRASHES.has(one.stop_cause);

/** A duration in whole milliseconds, for reading. */
const millis = (value) => roughly(BigInt(value ?? 0) * 1_000_000n);

const HEAD = 'Name Tenant Phase Since Running Standby vCPUs Memory Image Hypervisor'.split(' ');

export class Fleet extends Live {
  state = { data: null, error: null, filter: '', phase: '' };

  async load({ tenant, tenants, scope }, signal) {
    const whose = tenant ? [tenant] : tenants;
    if (scope === undefined) return api.list('/instances', { signal });
    return (await api.each(whose, (one) => api.list('/instances', { tenant: one, signal }))).flat();
  }

  identity({ tenant, tenants }) {
    return JSON.stringify([tenant, tenant ? 0 : tenants.length]);
  }

  /** The address of a view of a tenant, which a token of a tenant need not name. */
  address(view, tenant, id) {
    return address(view, { tenant: this.scope(tenant), id });
  }

  scope(tenant) {
    return this.props.scope === undefined ? undefined : tenant;
  }

  tiles(all) {
    const { phase } = this.state;
    const counts = new Map(PHASES.map((name) => [name, 0]));
    all.forEach((one) => counts.set(phaseOf(one), (counts.get(phaseOf(one)) ?? 0) + 1));
    const tile = (name, count, dot) => html`
      <button class="tile" aria-pressed=${phase === name}
        onClick=${() => this.setState({ phase: phase === name ? '' : name })}>
        <span class="count">${count.toLocaleString('en-US')}</span>
        <span class="phase"><span class="dot ${dot}"></span>${name || 'all'}</span>
      </button>`;
    const shown = PHASES.filter((name) => counts.get(name) > 0 || ALWAYS.includes(name));
    return html`
      <div class="tiles" role="group" aria-label="Instances by phase">
        ${tile('', all.length, 'none')}
        ${shown.map((name) => tile(name, counts.get(name), name))}
        ${tile('crashed', all.filter(crashed).length, 'crashed')}
      </div>`;
  }

  byTenant(all) {
    const tenants = new Map();
    for (const one of all) {
      const row = tenants.get(one.tenant) ?? { phases: {}, vcpus: 0, memory: 0 };
      row.phases[phaseOf(one)] = (row.phases[phaseOf(one)] ?? 0) + 1;
      row.vcpus += one.vcpus;
      row.memory += one.memory_bytes;
      tenants.set(one.tenant, row);
    }
    const { head } = this.props;
    const used = PHASES.filter((name) => all.some((one) => phaseOf(one) === name));
    const right = Array.from({ length: used.length + 3 }, (_, at) => at + 1);
    return html`
      <${Panel} title="By tenant">
        <${Table} label="Instances by tenant and phase" right=${right}
          head=${['Tenant', ...used, 'vCPUs', 'Memory', 'Last hour']}>
          ${[...tenants]
            .sort(([one], [other]) => (one < other ? -1 : 1))
            .map(
              ([tenant, row]) => html`
            <tr>
              <th scope="row"><a href=${this.address('bill', tenant)}>${tenant}</a></th>
              ${used.map((name) => html`<td class="right">${row.phases[name] ?? '–'}</td>`)}
              <td class="right">${row.vcpus}</td><td class="right">${bytes(row.memory)}</td>
              <${LastHour} tenant=${tenant} scope=${this.scope(tenant)} head=${head} />
            </tr>`,
            )}
        <//>
      <//>`;
  }

  chosen(all) {
    const { filter, phase } = this.state;
    const words = filter.toLowerCase().split(/\s+/).filter(Boolean);
    const told = (one) => {
      const tags = Object.entries(one.tags ?? {}).map((tag) => tag.join('='));
      const { name, id, tenant, state, image, hypervisor } = one;
      return [name, id, tenant, state, image, hypervisor, ...tags].join(' ').toLowerCase();
    };
    const inPhase = (one) =>
      !phase || (phase === 'crashed' ? crashed(one) : phaseOf(one) === phase);
    return all.filter(
      (one) => inPhase(one) && (!words.length || words.every((word) => told(one).includes(word))),
    );
  }

  since(at) {
    return at ? roughly(this.now - instant(at)) : '–';
  }

  row = (one, at) => html`
    <tr key=${one.id} aria-rowindex=${at + 2}>
      <th scope="row">
        <a href=${this.address('machine', one.tenant, one.id)}>${one.name}</a></th>
      <td>${one.tenant}</td>
      <td><${Phase} phase=${phaseOf(one)} />${
        crashed(one) &&
        html` <span class="bad">
        ${one.stop_cause}</span>`
      }${
        one.accounting.status === 'degraded' &&
        html` <span class="bad"
        title=${one.accounting.reason}>degraded</span>`
      }</td>
      <td class="right">${this.since(one.current_phase_since)}</td>
      <td class="right">${millis(one.phase_durations_ms?.running)}</td>
      <td class="right">${millis(one.phase_durations_ms?.standby)}</td>
      <td class="right">${one.vcpus}</td>
      <td class="right">${bytes(one.memory_bytes)}</td>
      <td>${one.image}</td>
      <td>${one.hypervisor}</td>
    </tr>`;

  show(all, { tenant }) {
    this.now = BigInt(Date.now()) * 1_000_000n;
    const { filter } = this.state;
    const chosen = this.chosen(all);
    const count = (rows) => rows.length.toLocaleString('en-US');
    const found = `${count(chosen)} of ${count(all)}`;
    return html`
      <h1>Fleet${tenant && html` <span class="of">${tenant}</span>`}</h1>
      ${this.tiles(all)}
      ${
        !all.length
          ? html`<${Empty}>No instances.
            ${' '}<code>tallyman instance create vm1 --image debian-busybox</code> makes one.<//>`
          : html`
        ${this.byTenant(all)}
        <${Panel} title="Instances" aside=${html`
          <label><span class="hidden">Filter</span>
            <input type="search" placeholder="Filter by name, tag, image …  (/)" value=${filter}
            onInput=${(event) => this.setState({ filter: event.target.value })} /></label>
          <span role="status">${found}</span>`}>
          <${LongTable} label="Instances" right=${[3, 4, 5, 6, 7]} rows=${chosen} row=${this.row}
            head=${HEAD} />
        <//>`
      }`;
  }
}
