// One tenant's bill: what it comes to so far, and what was made final.

import * as api from './api.js';
import { amount, instant, moment, sum } from './exact.js';
import { Digest, Empty, Live, Money, Panel, Problem, Table, address, html } from './ui.js';
import { Chapter, Lines } from './story.js';

const isNothing = (text) => /^-?0(\.0*)?$/.test(text);
const day = (text) => moment(instant(text)).slice(0, 10);

export class Bill extends Live {
  async load({ tenant, scope }, signal) {
    const asked = { tenant: scope, signal };
    const path = `/tenants/${encodeURIComponent(tenant)}`;
    const told = (question) =>
      question.then(
        (value) => ({ value }),
        (error) => {
          if (error.status > 401) return { error };
          throw error;
        },
      );
    const [invoices, prices] = await Promise.all([
      told(api.get(`${path}/invoices`, asked)),
      told(api.get(`${path}/prices`, asked)),
    ]);
    // What is kept of a preview is wrong as soon as there is a new document, or another price.
    const stands = JSON.stringify([invoices.value?.invoices.length, prices.value?.current?.digest]);
    if (this.stands && this.stands !== stands) api.forget(tenant);
    this.stands = stands;
    const preview = await told(api.preview(tenant, scope));
    return { preview, invoices, prices };
  }

  again = () => {
    api.forget(this.props.tenant);
    this.reload();
  };

  grouped(document, key, name) {
    const groups = new Map();
    for (const line of document.lines) {
      const group = key(line);
      if (!groups.has(group)) groups.set(group, []);
      groups.get(group).push(line.amount);
    }
    const rows = [...groups]
      .map(([group, amounts]) => [group, amounts.length, sum(amounts)])
      .filter(([, , total]) => !isNothing(total));
    if (!rows.length) return null;
    const size = (text) => Math.abs(Number(text));
    const most = Math.max(...rows.map(([, , total]) => size(total)));
    rows.sort(([, , one], [, , other]) => size(other) - size(one));
    return html`
      <div>
        <h3>By ${name}</h3>
        <${Table} label=${`By ${name}`} right=${[1, 2]} head=${[name, 'Lines', 'Amount']}>
          ${rows.slice(0, 50).map(
            ([group, count, total]) => html`
            <tr><th scope="row"><span class="bar" style=${{ '--share': size(total) / most }}></span>
              ${this.label(group, document, name)}</th><td class="right">${count}</td>
              <td class="right"><${Money} value=${total} currency=${document.currency} /></td>
              </tr>`,
          )}
        <//>
        ${rows.length > 50 && html`<p class="note">The largest 50 of ${rows.length}.</p>`}
      </div>`;
  }

  label(group, document, name) {
    if (name !== 'instance') return group;
    if (group === null) return 'the tenant';
    const named = document.instances.find(({ id }) => id === group)?.name ?? group;
    return html`<a href=${address('machine', { tenant: this.props.scope, id: group })}>${named}
      </a>`;
  }

  adjustments(document) {
    const rows = [
      ...document.adjustments,
      ...document.to_come.map((one) => ({ ...one, coming: true })),
    ];
    if (!rows.length) return null;
    return html`
      <div>
        <h3>Credits, caps and minimums</h3>
        <${Table} label="Adjustments" right=${[2]} head=${['Id', 'Kind', 'Amount']}>
          ${rows.map(
            (one) => html`<tr><th scope="row">${one.id}</th><td>
            ${one.kind}${one.coming && ', still to come'}</td><td class="right">
            <${Money} value=${one.amount} currency=${document.currency} /></td></tr>`,
          )}
        <//>
      </div>`;
  }

  soFar(document) {
    const { tenant, scope } = this.props;
    const { period, billed, currency, follows } = document;
    const counted = document.lines.filter((line) => !isNothing(line.amount)).length;
    return html`
      <${Panel} title=${`So far, ${day(period.from)} to ${day(period.until)}`} aside=${html`
        <span>${document.zone}, up to ${moment(instant(billed.until))} UTC</span>
        <button class="plain" onClick=${this.again}>Look again</button>`}>
        <p class="sofar"><span class="big" title=${document.period_total}>
          ${amount(document.period_payable)}</span> ${currency ?? 'without prices'}
          ${
            follows !== null &&
            html` <span
            class="note">of which ${amount(document.payable)} are not in a document yet</span>`
          }</p>
        ${
          document.unrated.length > 0 &&
          html`<p
          class="bad">Earlier time is unrated: ${document.unrated
            .map((one) => `${day(one.from)} to ${day(one.until)}`)
            .join(', ')}.</p>`
        }
        ${document.overrides.map(
          (one) => html`<p
          class="note">Override of ${day(one.span.from)} to ${day(one.span.until)}: ${one.reason}
          </p>`,
        )}
        <div class="two">
          ${this.grouped(document, (line) => line.rule, 'rule')}
          ${this.grouped(document, (line) => line.instance, 'instance')}
          ${this.adjustments(document)}
        </div>
        <details>
          <summary>${counted.toLocaleString('en-US')} lines</summary>
          <${Lines} document=${document} tenant=${tenant} scope=${scope} />
        </details>
      <//>`;
  }

  // An invoice and what corrected it are one story: that of their period.
  stories(invoices) {
    const { tenant, scope } = this.props;
    const periods = new Map();
    for (const one of invoices) periods.set(one.from, [...(periods.get(one.from) ?? []), one]);
    return [...periods].reverse().map(([from, documents]) => {
      const currency = documents[documents.length - 1].currency;
      return html`
        <section class="story" key=${from}>
          <header><h3>Period from ${day(from)}</h3>
            <span>asked for in all <${Money} value=${sum(documents.map((one) => one.payable))}
            currency=${currency} /></span></header>
          <ol>${documents.map(
            (summary) => html`<${Chapter} key=${summary.digest} summary=${summary}
            tenant=${tenant} scope=${scope} />`,
          )}</ol>
        </section>`;
    });
  }

  final(invoices) {
    if (invoices.length) return this.stories(invoices);
    return html`<${Empty}>Nothing has been made
      final. <code>tallyman invoice close --to now</code> does it.<//>`;
  }

  show({ preview, invoices, prices }, { tenant }) {
    const documents = preview.value?.documents ?? [];
    const book = prices.value?.current;
    return html`
      <h1>Bill <span class="of">${tenant}</span></h1>
      ${preview.error && html`<${Problem} error=${preview.error} />`}
      ${
        prices.value &&
        !book &&
        html`<${Empty}>No prices are in force: time is measured, and costs
          nothing. <code>tallyman prices set FILE</code> sets them.<//>`
      }
      ${documents.map((document) => this.soFar(document))}
      ${
        preview.value &&
        !documents.length &&
        html`<${Empty}>Nothing has happened since the last document.<//>`
      }
      <${Panel} title="Documents" aside=${
        book &&
        html`<span>prices in force: <${Digest}
        digest=${book.digest} /></span>`
      }>
        ${invoices.error && html`<${Problem} error=${invoices.error} />`}
        ${invoices.value && this.final(invoices.value.invoices)}
      <//>`;
  }
}
