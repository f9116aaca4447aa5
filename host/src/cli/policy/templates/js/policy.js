// The rules of a policy: the time that counts, and the meters that count it. The contract is in
// wit/.

// The meters, for the declaration and for the measurement, so that the two can't disagree.
// Ordinals of the phases are in wit/types.wit.
const METERS = [
  { name: 'active', phases: [1, 2], counts: 'time in initializing, running', stretch: 'wake' },
  {
    name: 'allocated',
    phases: [0, 1, 2, 3, 4, 5, 6, 7],
    counts: 'all time from the creation to the deletion',
    stretch: 'life',
  },
];
const MINIMUM = { name: 'minimum', default: '60s', does: 'least time that a start owes on the meter active' };
const SECOND_NS = 1_000_000_000n;
const UNITS_NS = { ns: 1n, ms: 1_000_000n, s: SECOND_NS, m: 60n * SECOND_NS, h: 3_600n * SECOND_NS };

export const metering = {
  describe() {
    return {
      meters: METERS.map(({ name, counts, stretch }) => ({ name, counts, stretch })),
      options: [{ ...MINIMUM, kind: { tag: 'duration' } }],
      billedRatio: 1_000,
    };
  },

  // The mask of an interval follows from its phase alone.
  measure({ intervals, options }) {
    const masks = Array.from({ length: 8 }, (_, phase) =>
      METERS.reduce((mask, { phases }, bit) => (phases.includes(phase) ? mask | (1n << BigInt(bit)) : mask), 0n),
    );
    const given = options.find(({ name }) => name === MINIMUM.name);
    const minimum = nanoseconds(given ? given.value : MINIMUM.default);
    return {
      terms: [
        { name: 'active', stretch: 'wake', minimum, granularity: SECOND_NS, rounding: 'up' },
        { name: 'allocated', stretch: 'life', minimum: 0n, granularity: 1n, rounding: 'up' },
      ],
      counted: BigUint64Array.from(intervals.phase, (phase) => masks[phase]),
      lines: [],
    };
  },
};

// Parses a duration such as 60s, in nanoseconds. The host refuses invalid ones, but not long ones.
function nanoseconds(text) {
  const [, digits, unit] = /^([0-9]+)(ns|ms|s|m|h)$/.exec(text) ?? [];
  const length = digits === undefined ? undefined : BigInt(digits) * UNITS_NS[unit];
  if (length === undefined || length > 366n * 24n * UNITS_NS.h) {
    throw { tag: 'invalid-option', val: `${MINIMUM.name}: ${text} is no length of time of at most 366 days` };
  }
  return length;
}
