// What time costs. The contract is in wit/.

// Ordinals of the phases that are charged: initializing, running.
const CHARGED = new Set([1, 2]);

export const rating = {
  // A line for each instance that ran, at the book's price for meter `active`.
  rate(request) {
    const price = thePrice(request);
    const lines = price ? bySubject(request.intervals).map((of) => line(request, price, of)) : [];
    return { lines, carried: new Uint8Array() };
  },
};

// The one price that this policy knows how to use. What it doesn't know it refuses, so that nobody is charged wrongly.
function thePrice({ book, period }) {
  if (book.rounding !== 'half-even' || book.lineDigits !== 9) throw unknown('rounding but half to even, to nano-units');
  if (book.adjustments.length > 0) throw unknown('minimums, caps and credits');
  if (book.prices.length > 1) throw unknown('more than one price');
  const [price] = book.prices;
  if (!price) return undefined;
  if (price.meter !== 'active' || price.unit !== 'ns') throw { tag: 'missing-price', val: price.rule };
  if (price.model !== 'flat' || price.windows.length > 0) throw unknown('tiers, packages and hours');
  if (price.valid.start > period.start || price.valid.end < period.end) {
    throw unknown('prices that change within a period');
  }
  return price;
}

function unknown(what) {
  return { tag: 'other', val: `this policy knows no ${what}` };
}

// The intervals that are charged, of each instance that has any.
function bySubject(columns) {
  const found = [];
  for (let item = 0; item < columns.phase.length; item += 1) {
    if (!CHARGED.has(columns.phase[item])) continue;
    const subject = columns.subject[item];
    if (found.at(-1)?.subject !== subject) found.push({ subject, covered: [] });
    found.at(-1).covered.push(item);
  }
  return found;
}

// Quantity times price, rounded once, half to even.
function line({ intervals, subjects }, price, { subject, covered }) {
  const quantity = covered.reduce((sum, item) => sum + intervals.end[item] - intervals.start[item], 0n);
  const unitPrice = price.tiers[0].price;
  const [nanos, per] = [number(unitPrice.numerator), number(unitPrice.denominator)];
  let amount = (quantity * nanos) / per;
  let rest = (quantity * nanos) % per;
  if (2n * rest > per || (2n * rest === per && amount % 2n === 1n)) {
    amount += 1n;
    rest -= per;
  }
  return {
    kind: 'usage',
    rule: price.rule,
    meter: price.meter,
    subject,
    intervals: covered,
    starts: [],
    ends: [],
    sessions: [],
    quantity: words(quantity),
    billed: words(quantity),
    unit: price.unit,
    priceId: price.id,
    tier: 0,
    price: unitPrice,
    amount: words(amount),
    remainder: words(rest),
    description: `${subjects[subject].name} ran for ${quantity} ns, at ${nanos} nano-units for ${per} ns`,
  };
}

function number({ lower, upper }) {
  return (upper << 64n) | lower;
}

// The low 64 bits, and the rest with the sign.
function words(number) {
  if (BigInt.asIntN(128, number) !== number) throw { tag: 'overflow' };
  return { lower: BigInt.asUintN(64, number), upper: number >> 64n };
}
