// Documents: an invoice, what came after it, and the lines of each.

import * as api from './api.js';
import { instant, moment, quantity, roughly, seconds } from './exact.js';
import { Component, Digest, Empty, Money, Phase, Problem, Table, address, html } from './ui.js';

/** The machine's timeline between two instants of the meter clock. */
const onTimeline = (tenant, id, from, until) => address('machine', { tenant, id, from, until });

const ofDocument = ({ number }) => (number ? `of document ${number}` : 'so far');

/** One line, which opens to the time that it covers. */
export class Line extends Component {
  state = { open: false, time: null, error: null };

  toggle = async () => {
    const open = !this.state.open;
    this.setState({ open });
    if (!open || this.state.time) return;
    try {
      this.setState({ time: await this.load() });
    } catch (error) {
      this.setState({ error });
    }
  };

  // A final line's time is what its meter counted; a preview's is what the machine did meanwhile.
  async load() {
    const { line, document, tenant, scope } = this.props;
    if (document.number) {
      const of = `/tenants/${encodeURIComponent(tenant)}/invoices/${document.number}`;
      const path = `${of}/lines/${line.number}`;
      return (await api.get(path, { tenant: scope })).time;
    }
    if (!line.instance) return [];
    const account = await api.get(`/instances/${line.instance}/intervals`, { tenant: scope });
    const [from, until] = [instant(line.from), instant(line.until)];
    return account.intervals.filter((one) => instant(one.start) < until && instant(one.end) > from);
  }

  detail(line, document, names) {
    const { time, error } = this.state;
    if (error) return html`<${Problem} error=${error} />`;
    if (!time) return html`<p class="loading" role="status">Loading…</p>`;
    const whole = time.reduce((sum, one) => sum + BigInt(one.end_ns) - BigInt(one.start_ns), 0n);
    const receipts = document.receipts.filter((one) => one.call === 'measure');
    const divided = line.price_denominator !== '1' ? ` / ${line.price_denominator}` : '';
    const price = `${line.price_numerator}${divided}`;
    const per = line.per ? `, stated per ${line.per}` : '';
    const place = ({ start_ns, end_ns }) =>
      onTimeline(this.props.scope, line.instance, String(start_ns), String(end_ns));
    return html`
      <div class="detail">
        <p>
          <strong>${quantity(line.billed, line.unit)}</strong> of meter <code>${line.meter}
            </code>, price <code>${line.price_id}</code>, tier ${line.tier + 1}:
          ${' '}${price} billionths of ${document.currency} for each ${line.unit}${per}.
          ${line.was !== null && html` Was ${line.was}, is ${line.is}.`}
        </p>
        ${
          time.length
            ? html`
          <${Table} label=${`Time of line ${line.number} ${ofDocument(document)}`} right=${[0, 3]}
            head=${['Fact', 'Phase', 'From, meter ns', 'Duration', '']}>
            ${time.slice(0, 200).map(
              (one) => html`
              <tr>
                <td class="right">${one.fact}</td><td><${Phase} phase=${one.phase} /></td>
                  <td class="mono">${String(one.start_ns)}</td>
                <td class="right mono">${seconds(BigInt(one.end_ns) - BigInt(one.start_ns))}</td>
                <td>${
                  line.instance &&
                  html`<a
                  href=${place(one)}>on the timeline</a>`
                }</td>
              </tr>`,
            )}
          <//>
          <p class="note">${time.length.toLocaleString('en-US')} intervals,
            ${' '}${seconds(whole)} in all${time.length > 200 && '; the first 200 are shown'}.</p>`
            : html`<${Empty}>It is about no machine's time.<//>`
        }
        ${receipts.map(
          (one) => html`<p class="note">Measured by <${Digest}
          digest=${one.component} /> from facts ${one.facts?.join(' to ') ?? '–'};
          input <${Digest} digest=${one.input} />, output <${Digest} digest=${one.output} />,
          link <${Digest} digest=${one.chain} />.</p>`,
        )}
      </div>`;
  }

  render({ line, document, names }, { open }) {
    return html`
      <tr>
        <td><button class="link" aria-expanded=${open} onClick=${this.toggle}>
          ${open ? '▾' : '▸'} ${line.number}</button></td>
        <td>${line.rule}</td>
        <td>${line.instance ? (names.get(line.instance) ?? line.instance) : 'the tenant'}</td>
        <td class="right mono">${quantity(line.billed, line.unit)}</td>
        <td>${line.kind === 'usage' ? line.per : line.kind}</td>
        <td class="right"><${Money} value=${line.amount} currency=${document.currency} /></td>
      </tr>
      ${
        open &&
        html`<tr class="opened"><td colspan="6">${this.detail(line, document, names)}</td>
        </tr>`
      }`;
  }
}

/** All lines of a document, those of nothing left out. */
export class Lines extends Component {
  state = { all: false };

  render({ document, tenant, scope }, { all }) {
    const names = new Map(document.instances.map(({ id, name }) => [id, name]));
    const lines = document.lines.filter((line) => !/^-?0(\.0*)?$/.test(line.amount));
    const shown = all ? lines : lines.slice(0, 100);
    if (!lines.length) return html`<${Empty}>It has no line with an amount.<//>`;
    return html`
      <${Table} label=${`Lines ${ofDocument(document)}`} right=${[3, 5]}
        head=${['Line', 'Rule', 'Instance', 'Billed', 'Per', 'Amount']}>
        ${shown.map(
          (line) => html`<${Line} key=${line.number} line=${line} document=${document}
          names=${names} tenant=${tenant} scope=${scope} />`,
        )}
      <//>
      ${
        shown.length < lines.length &&
        html`<p>
        <button class="plain"
        onClick=${() => this.setState({ all: true })}>Show
        all ${lines.length.toLocaleString('en-US')} lines</button></p>`
      }`;
  }
}

const made = ({ earlier_form, calls, facts, witnesses }) =>
  earlier_form
    ? 'a document of the earlier form, whose bytes are whole'
    : `${calls} calls made again from ${facts} facts by ${witnesses.join(' and by ')}`;

/** Makes a document again, and says what came out. */
export class Prove extends Component {
  state = { busy: false, proof: null, error: null };

  prove = async () => {
    const { tenant, scope, number } = this.props;
    this.setState({ busy: true, proof: null, error: null });
    const began = performance.now();
    try {
      const proof = await api.act(
        'POST',
        `/tenants/${encodeURIComponent(tenant)}/invoices/${number}/proof`,
        { tenant: scope },
      );
      this.setState({
        busy: false,
        proof,
        took: BigInt(Math.round(performance.now() - began)) * 1_000_000n,
      });
    } catch (error) {
      this.setState({ busy: false, error });
    }
  };

  render(_, { busy, proof, error, took }) {
    return html`
      <div class="prove">
        <button onClick=${this.prove} disabled=${busy}>
          ${busy ? 'Proving…' : 'Prove this'}</button>
        <div role="status">
          ${
            proof?.proved &&
            html`<p
            class="good">Proved byte for byte in ${roughly(took)}: ${made(proof)}.
            ${' '}SHA-256 <${Digest} digest=${proof.digest} /></p>`
          }
          ${proof && !proof.proved && html`<p class="bad">Not proved: ${proof.difference}</p>`}
        </div>
        ${error && html`<${Problem} error=${error} />`}
      </div>`;
  }
}

/** A document in a story; it opens to its lines. */
export class Chapter extends Component {
  state = { open: false, document: null, error: null };

  toggle = async () => {
    const open = !this.state.open;
    this.setState({ open });
    if (!open || this.state.document) return;
    const { tenant, scope, summary } = this.props;
    try {
      this.setState({
        document: await api.get(
          `/tenants/${encodeURIComponent(tenant)}/invoices/${summary.number}`,
          { tenant: scope },
        ),
      });
    } catch (error) {
      this.setState({ error });
    }
  };

  render({ summary, tenant, scope }, { open, document, error }) {
    const { number, kind, reason, currency, payable, until, stale, digest } = summary;
    const what =
      { invoice: 'Invoice', correction: 'Correction' }[kind] ?? 'Document of the earlier form';
    return html`
      <li class="chapter">
        <div class="line">
          <button class="link" aria-expanded=${open} onClick=${this.toggle}>
            ${open ? '▾' : '▸'} ${what} ${number}</button>
          <span>up to ${moment(instant(until))} UTC</span>
          ${stale && html`<span class="bad">stale</span>`}
          <span class="why">${reason}</span>
          <${Money} value=${payable} currency=${currency} />
        </div>
        ${
          open &&
          html`
          <div class="inside">
            <p class="note">SHA-256 <${Digest}
              digest=${digest} />, fact ${summary.fact} of the journal.</p>
            <${Prove} tenant=${tenant} scope=${scope} number=${number} />
            ${error && html`<${Problem} error=${error} />`}
            ${
              document &&
              (document.form >= 2
                ? html`<${Lines} document=${document} tenant=${tenant}
              scope=${scope} />`
                : html`<${Empty}>Its lines are of the earlier form; the API has them.<//>`)
            }
          </div>`
        }
      </li>`;
  }
}
