// Policies: where each stands, what those on trial would change in money, and their activation.

import * as api from './api.js';
import { amount, bytes } from './exact.js';
import { Confirm, Digest, Empty, Live, Money, Panel, Problem, Table, When, html } from './ui.js';

const STANDINGS = {
  active: 'in force',
  shadow: 'on trial',
  admitted: 'ready',
  retired: 'in force before',
};

export class Policies extends Live {
  state = { data: null, error: null, asked: null, done: null };

  async load({ tenant, scope }, signal) {
    const asked = { tenant: scope, signal };
    const path = `/tenants/${encodeURIComponent(tenant)}`;
    const [all, stands, whole] = await Promise.all([
      api.get('/policies', asked),
      api.get(`${path}/policy`, asked),
      api.get(path, asked),
    ]);
    const tried = stands.policies.filter((one) => one.state === 'shadow');
    const reports = await api.each(
      tried,
      (one) =>
        api.get(`${path}/shadows/${one.digest}`, asked).then(
          (report) => ({ report }),
          (error) => ({ error, digest: one.digest }),
        ),
      2,
    );
    return { all: all.policies, stands, reports, delegated: whole.billing_delegated };
  }

  may(delegated) {
    const { role } = this.props.session;
    return ['operator', 'billing'].includes(role) || (role === 'tenant-admin' && delegated);
  }

  named(digest) {
    const { all } = this.state.data;
    const known = all.find((one) => one.digest === digest);
    const name = known?.name ?? (known?.standard ? 'standard' : null);
    return html`${name && html`<strong>${name}</strong> `}<${Digest} digest=${digest} />`;
  }

  act(body, path, method) {
    const { tenant, scope } = this.props;
    // The same answer if it is sent twice.
    const key = crypto.randomUUID?.() ?? `${Date.now()}-${Math.random()}`;
    return async (reason) => {
      const done = await api.act(method, `/tenants/${encodeURIComponent(tenant)}/${path}`, {
        tenant: scope,
        key,
        body: { ...body, reason },
      });
      this.setState({ done });
    };
  }

  activate(policy) {
    const { stands } = this.state.data;
    const again =
      stands.activations.some((one) => one.digest === policy.digest) ||
      stands.quarantined.some((one) => one.digest === policy.digest);
    const body = { digest: policy.digest, ...(again && { again: true }) };
    this.setState({
      asked: {
        title: 'Put this policy in force?',
        digest: policy.digest,
        again,
        action: 'Activate',
        act: this.act(body, 'policy', 'PUT'),
      },
    });
  }

  rollBack() {
    const { stands } = this.state.data;
    this.setState({
      asked: {
        title: 'Roll back?',
        digest: stands.previous,
        again: false,
        action: 'Roll back',
        act: this.act({}, 'policy/rollback', 'POST'),
      },
    });
  }

  dialog() {
    const { asked } = this.state;
    if (!asked) return null;
    return html`
      <${Confirm} title=${asked.title} action=${asked.action} act=${asked.act}
        close=${(done) => this.setState({ asked: null }, () => done && this.fetch())}>
        <p>From this instant on, every nanosecond of <strong>${this.props.tenant}
          </strong>'s instances counts
          under ${this.named(asked.digest)}. What was counted before stays.</p>
        ${asked.again && html`<p>It was in force before.</p>`}
      <//>`;
  }

  table({ all, stands, delegated }) {
    const may = this.may(delegated);
    const quarantined = new Map(stands.quarantined.map((one) => [one.digest, one]));
    return html`
      <${Panel} title="Policies" aside=${
        may &&
        stands.previous &&
        html`<button class="plain"
        onClick=${() => this.rollBack()}>Roll back …</button>`
      }>
        <${Table} label="Policies" right=${[3]}
          head=${['Policy', 'Stands', 'Kind', 'Size', 'Admitted', '']}>
          ${all.map((one) => {
            const ill = quarantined.get(one.digest);
            const active = one.digest === stands.digest;
            return html`
              <tr>
                <th scope="row">${this.named(one.digest)}</th>
                <td>${
                  active
                    ? html`<span
                  class="good">in force</span>`
                    : (STANDINGS[one.state] ?? one.state ?? '–')
                }${
                  ill &&
                  html` <span class="bad"
                  title=${ill.reason}>quarantined after ${ill.faults} faults</span>`
                }</td>
                <td>${one.world || 'being examined'}</td>
                <td class="right">${bytes(one.size_bytes)}</td>
                <td><${When} at=${one.admitted_at} /></td>
                <td class="right">${
                  may &&
                  !active &&
                  one.world &&
                  html`<button class="plain"
                  aria-label=${`Activate ${one.name ?? one.digest.slice(0, 12)}`}
                  onClick=${() => this.activate(one)}>Activate …</button>`
                }</td>
              </tr>`;
          })}
        <//>
      <//>`;
  }

  history({ stands }) {
    const planned = stands.planned.map((one) => ({ ...one, planned: true }));
    const rows = [...stands.activations, ...planned].reverse();
    return html`
      <${Panel} title="In force, by time">
        <${Table} label="Activations" head=${['From, UTC', 'Policy', '']}>
          ${rows.map(
            (one) => html`<tr><td class="mono"><${When} at=${one.from} digits=9 /></td><td>
            ${this.named(one.digest)}</td><td>
            ${one.planned && html`<span class="tag">planned</span>`}</td></tr>`,
          )}
        <//>
      <//>`;
  }

  trial({ report, error, digest }) {
    if (error)
      return html`<${Panel} title="On trial" aside=${this.named(digest)}>
        <${Problem} error=${error} /><//>`;
    const { money } = report;
    return html`
      <${Panel} title="On trial" aside=${this.named(report.digest)}>
        <p>Since <${When} at=${report.since} /> UTC: ${report.compared} of ${report.instances}
          instances compared, ${report.differing} differ in time.
          ${
            report.faults > 0 &&
            html` <span
            class="bad">It failed for ${report.faults}: ${report.fault}</span>`
          }</p>
        ${
          money
            ? this.money(money)
            : html`<${Empty}>Nothing to say in money: ${report.unrated}
          <//>`
        }
        ${
          report.worst &&
          html`<p class="note">Most time moves at <strong>${report.worst.name}
          </strong>.</p>`
        }
      <//>`;
  }

  money(money) {
    const number = (text) => Number(text);
    const most = Math.max(
      ...money.instances.map((one) => Math.max(number(one.active), number(one.candidate))),
      Number.MIN_VALUE,
    );
    return html`
      <p class="sofar"><span class="big">${number(money.net) > 0 ? '+' : ''}${amount(money.net)}
        </span> ${money.currency ?? ''}${' '}
        <span class="note">in force <${Money} value=${money.active}
          currency=${money.currency} />, on trial <${Money} value=${money.candidate}
          currency=${money.currency} /></span></p>
      ${
        money.instances.length > 0 &&
        html`
        <${Table} label="Where they differ most" right=${[1, 2]}
          head=${['Instance', 'In force', 'On trial', 'Compared']}>
          ${money.instances.slice(0, 20).map(
            (one) => html`
            <tr>
              <th scope="row">${one.instance ?? 'the tenant'}</th>
              <td class="right"><${Money} value=${one.active} /></td><td class="right">
                <${Money} value=${one.candidate} /></td>
              <td><span class="bars">
                <span class="active" style=${{ '--share': number(one.active) / most }}></span>
                <span class="candidate" style=${{ '--share': number(one.candidate) / most }}>
                </span></span></td>
            </tr>`,
          )}
        <//>`
      }`;
  }

  show(data, { tenant }) {
    const { done } = this.state;
    return html`
      <h1>Policies <span class="of">${tenant}</span></h1>
      ${
        done &&
        html`<p class="good" role="status">In force from <${When}
        at=${done.from} digits=9 /> UTC on, fact ${done.fact}.</p>`
      }
      ${this.table(data)}
      ${data.reports.map((one) => this.trial(one))}
      ${this.history(data)}
      ${this.dialog()}`;
  }
}
