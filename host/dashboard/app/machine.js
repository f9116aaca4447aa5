// One machine: its timeline, its totals, and what it says.

import * as api from './api.js';
import { bytes, instant, moment, roughly, seconds } from './exact.js';
import {
  Digest,
  Empty,
  Live,
  LongTable,
  PHASES,
  Panel,
  Phase,
  Table,
  When,
  createRef,
  html,
} from './ui.js';
import { Time, Timeline } from './timeline.js';

const LINES = 200;

/** The time in each phase, exactly. */
function summed(intervals) {
  const sums = new Map();
  for (const one of intervals)
    sums.set(one.phase, (sums.get(one.phase) ?? 0n) + BigInt(one.end_ns) - BigInt(one.start_ns));
  return sums;
}

const HEAD = ['#', 'Phase', 'From', 'Duration', 'Policy', 'vCPUs', 'Memory', 'Start', 'Fact'];
const SPOKEN =
  'Timeline. Arrow keys move, plus and minus zoom, 0 shows the whole life; ' +
  'the table below says the same in words.';

export class Machine extends Live {
  canvas = createRef();
  shown = createRef();
  state = { data: null, error: null, selected: -1 };

  identity({ id, tenant }) {
    return `${tenant} ${id}`;
  }

  async load({ id, scope, session, tenant }, signal) {
    const asked = { tenant: scope, signal };
    const key = encodeURIComponent(id);
    const whose = encodeURIComponent(tenant || session.tenant);
    const optional = (question) =>
      question.catch((error) => {
        if (error.status >= 400) return null;
        throw error;
      });
    const [one, account, policies, policy, prices, log] = await Promise.all([
      api.get(`/instances/${key}?deleted=true`, asked),
      api.get(`/instances/${key}/intervals`, asked),
      optional(api.get('/policies', asked)),
      optional(api.get(`/tenants/${whose}/policy`, asked)),
      optional(api.get(`/tenants/${whose}/prices`, asked)),
      optional(api.lines(`/instances/${key}/logs?tail=${LINES}`, asked)),
    ]);
    return {
      one,
      account,
      policies,
      policy,
      prices,
      log,
      time: new Time(account.intervals),
      sums: summed(account.intervals),
    };
  }

  componentDidUpdate(before, was) {
    super.componentDidUpdate(before);
    const canvas = this.canvas.current;
    if (canvas && this.drawn !== canvas) {
      this.timeline?.close();
      this.drawn = canvas;
      const { from, until } = this.props.rest;
      this.wanted = from && until ? [BigInt(from), BigInt(until)] : null;
      this.timeline = new Timeline(canvas, {
        changed: (from, span) => this.say(from, span),
        picked: (selected) => this.setState({ selected }),
      });
    }
    if (this.timeline && this.state.data && this.state.data !== was.data) {
      this.timeline.set(this.state.data.time, this.marks(), this.offset);
      if (this.wanted) this.timeline.show(this.wanted[0], this.wanted[1] - this.wanted[0]);
      this.wanted = null;
    }
  }

  componentWillUnmount() {
    super.componentWillUnmount();
    this.timeline?.close();
  }

  // Where the calendar lies on the meter clock: the intervals say so, each for its own time.
  offset = (at) => {
    const { time, account } = this.state.data;
    const one = account.intervals[time.at(at)];
    return one ? instant(one.start) - BigInt(one.start_ns) : 0n;
  };

  marks() {
    const { policy, prices, time } = this.state.data;
    const inside = ({ at }) => at > time.start && at < time.end;
    const policies = (policy?.activations ?? []).map((one) => ({
      at: BigInt(one.from_ns),
      kind: 'policy',
      label: this.named(one.digest),
    }));
    const books = (prices?.history ?? []).map((one) => ({
      at: BigInt(one.from_ns),
      kind: 'prices',
      label: one.digest.slice(0, 8),
    }));
    return [...policies, ...books]
      .filter(inside)
      .sort((one, other) => (one.at < other.at ? -1 : 1));
  }

  named(digest) {
    const known = this.state.data.policies?.policies.find((one) => one.digest === digest);
    return known?.name ?? (known?.standard ? 'standard' : digest.slice(0, 8));
  }

  pick(selected) {
    this.setState({ selected });
    this.timeline?.select(selected);
    const { time } = this.state.data;
    if (selected < 0 || !this.timeline) return;
    const [from, until] = [time.starts[selected], time.starts[selected + 1]];
    if (from < this.timeline.from || until > this.timeline.from + this.timeline.span) {
      const length = until - from || 1_000n;
      this.timeline.show(from - length / 2n, length * 2n);
    }
  }

  // Written past the view: it changes with every frame.
  say(from, span) {
    const shown = this.shown.current;
    if (shown) shown.textContent = `${moment(from + this.offset(from), 3)} UTC, ${roughly(span)}`;
  }

  controls() {
    const button = (label, text, act) =>
      html`<button class="plain" aria-label=${label} title=${label}
        onClick=${() => act(this.timeline)}>${text}</button>`;
    return html`
      <span class="shown" ref=${this.shown}></span>
      ${button('Earlier', '◀', (line) => line.pan(-0.5))}
      ${button('Later', '▶', (line) => line.pan(0.5))}
      ${button('Zoom in', '+', (line) => line.zoom(0.5))}
      ${button('Zoom out', '−', (line) => line.zoom(2))}
      ${button('All of its life', 'All', (line) => line.whole())}`;
  }

  totals({ account, one, sums }) {
    const phases = PHASES.filter((name) => sums.has(name) || account.accounted.totals_ns[name]);
    const of = (totals, name) => BigInt(totals[name] ?? 0);
    const agree = phases.every((name) => (sums.get(name) ?? 0n) === of(account.totals_ns, name));
    const [proof, counted] = [account.proof, account.accounted.proof];
    // The phase that goes on has gone on between the two answers.
    const millis = (name) => of(account.accounted.totals_ns, name) / 1_000_000n;
    const told = phases.every(
      (name) =>
        name === one.current_phase || millis(name) === of(one.phase_durations_ms ?? {}, name),
    );
    const exact =
      agree && told && BigInt(proof.difference_ns) === 0n && BigInt(counted.difference_ns) === 0n;
    return html`
      <${Panel} title="Time" aside=${html`<span class=${exact ? 'good' : 'bad'}>
        ${exact ? 'adds up to the nanosecond' : 'does not add up'}</span>`}>
        <${Table} label="Time in each phase" right=${[1, 2, 3]}
          head=${['Phase', 'Was', 'Counted by the policy', 'API, ms']}>
          ${phases.map(
            (name) => html`
            <tr>
              <th scope="row"><${Phase} phase=${name} /></th>
              <td class="right mono">${seconds(sums.get(name) ?? 0n)}</td>
              <td class="right mono">${seconds(of(account.accounted.totals_ns, name))}</td>
              <td class="right mono">${millis(name).toLocaleString('en-US')}</td>
            </tr>`,
          )}
          <tr class="sum"><th scope="row">Lifetime</th><td class="right mono">
            ${seconds(BigInt(proof.lifetime_ns))}</td><td class="right mono">
            ${seconds(BigInt(counted.sum_ns))}</td><td></td></tr>
        <//>
        <p class="note">Intervals less lifetime: ${String(proof.difference_ns)} ns. Counted less
          lifetime: ${String(counted.difference_ns)} ns.</p>
      <//>`;
  }

  interval(piece, at) {
    return html`
      <tr key=${at} class=${at === this.state.selected ? 'selected' : ''} aria-rowindex=${at + 2}>
        <th scope="row"><button class="link" onClick=${() => this.pick(at)}
          aria-label=${`Show interval ${at + 1}`}>${at + 1}</button></th>
        <td><${Phase} phase=${piece.phase} />
          ${piece.open && html` <span class="tag">now</span>`}${
            piece.cause &&
            html` <span
          class="tag">${piece.cause}</span>`
          }</td>
        <td class="mono"><${When} at=${piece.start} digits=9 /></td>
        <td class="right mono">${seconds(BigInt(piece.end_ns) - BigInt(piece.start_ns))}</td>
        <td>${this.named(piece.policy)}</td>
        <td class="right">${piece.shape.vcpus}</td>
        <td class="right">${bytes(piece.shape.memory_bytes)}</td>
        <td class="right">${piece.session}</td>
        <td class="right">${piece.fact}</td>
      </tr>`;
  }

  facts(one) {
    const rows = [
      ['Id', html`<code>${one.id}</code>`],
      ['Tenant', one.tenant],
      ['Image', one.image],
      ['Hypervisor', one.hypervisor],
      [
        'Shape',
        `${one.vcpus} vCPU, ${bytes(one.memory_bytes)}, disks ${bytes(one.disk_bytes)}, ` +
          `snapshots ${bytes(one.snapshot_bytes)}`,
      ],
      ['Created', html`<${When} at=${one.created_at} />`],
      ['Started', html`<${When} at=${one.started_at} />`],
      one.stop_cause && ['Stopped because', one.stop_cause],
      one.exit_message && ['It said', `${one.exit_message} (${one.exit_code})`],
      one.state_error && ['Went wrong', one.state_error],
      one.deleted_at && ['Deleted', html`<${When} at=${one.deleted_at} />`],
      ['Policy', html`<${Digest} digest=${one.policy} />`],
    ].filter(Boolean);
    return html`<${Panel} title="Machine"><dl>${rows.map(
      ([name, value]) => html`<div><dt>${name}
      </dt><dd>${value}</dd></div>`,
    )}</dl><//>`;
  }

  legend(time) {
    const seen = PHASES.filter((_, at) => time.phases.includes(at));
    return seen.map((name) => html`<${Phase} phase=${name} /> `);
  }

  show({ one, account, time, sums, log }) {
    return html`
      <h1>${one.name} <span class="of">${one.tenant}
        </span> <${Phase} phase=${one.state.toLowerCase()} /></h1>
      <${Panel} title="Timeline" aside=${this.controls()}>
        ${
          time.count
            ? html`<div class="timeline" tabindex="0" role="group"
              aria-label=${SPOKEN} onKeyDown=${(event) => this.timeline?.key(event)}>
              <canvas ref=${this.canvas} role="img" aria-label=${`${time.count} intervals`}>
                </canvas>
            </div>
            <p class="legend">${this.legend(time)}<span>▲ policy changes</span>
              ${' '}<span>■ prices change</span>
              ${' '}<span class="bad">▬ unknown, missing or crashed</span></p>`
            : html`<${Empty}>It has no time yet.<//>`
        }
      <//>
      <div class="two">${this.totals({ account, one, sums })}${this.facts(one)}</div>
      <${Panel} title="Intervals" aside=${`${time.count.toLocaleString('en-US')} intervals, UTC`}>
        <${LongTable} label="Intervals" right=${[3, 5, 6, 7, 8]} rows=${account.intervals}
          row=${(piece, at) => this.interval(piece, at)}
          head=${HEAD} />
      <//>
      ${
        log &&
        html`<${Panel} title="Console" aside=${`last ${LINES} lines`}>
        ${
          log.length
            ? html`<pre class="console" tabindex="0" role="log" aria-live="off"
          aria-label="Console">${log.join('\n')}</pre>`
            : html`<${Empty}>It has said nothing.<//>`
        }
      <//>`
      }`;
  }
}
