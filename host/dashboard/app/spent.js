// Money of the last hour: what a close would make now, less what it would have made an hour ago.

import * as api from './api.js';
import { difference, sum } from './exact.js';
import { Money, Seen, html } from './ui.js';

const HOUR_MS = 3_600_000;

/** What each period of a preview comes to, by its beginning. */
const totals = ({ documents }) =>
  new Map(documents.map((one) => [one.period.from, [one.period_total, one.currency]]));

/** A cell with the money of a tenant's last hour. */
export class LastHour extends Seen {
  state = { amounts: null };

  async look() {
    const { tenant, scope } = this.props;
    try {
      const now = await api.preview(tenant, scope);
      const until = now.documents.at(-1)?.billed.until;
      const before = until ? await this.before(Date.parse(until) - HOUR_MS) : { documents: [] };
      this.setState({ amounts: this.grown(totals(now), totals(before)) });
    } catch {
      // A role or a tenant that may not ask now; the bill's own view says why.
      this.setState({ amounts: null });
    }
  }

  // A tenant that is younger has had nothing then.
  async before(at) {
    const { tenant, scope } = this.props;
    const none = (error) => {
      if (error.status === 400 || error.status === 409) return { documents: [] };
      throw error;
    };
    return api.previewAt(tenant, scope, new Date(at).toISOString()).catch(none);
  }

  grown(now, before) {
    const amounts = new Map();
    for (const [from, [total, currency]] of now) {
      if (!currency) continue;
      const grown = difference(total, before.get(from)?.[0] ?? '0');
      amounts.set(currency, [...(amounts.get(currency) ?? []), grown]);
    }
    return [...amounts].map(([currency, all]) => [sum(all), currency]);
  }

  render(_, { amounts }) {
    return html`
      <td class="right" ref=${this.cell}>${
        amounts?.length
          ? amounts.map(
              ([amount, currency]) => html`<${Money} value=${amount} currency=${currency} />`,
            )
          : '–'
      }</td>`;
  }
}
