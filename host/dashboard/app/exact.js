// Exact numbers: instants and durations are BigInt nanoseconds, money is decimal text.

const NS = 1_000_000_000n;
export const SECOND = NS;
export const MINUTE = 60n * NS;
export const HOUR = 3_600n * NS;
export const DAY = 86_400n * NS;

// Texts pass, whole numbers of 16 digits and more become texts: JSON's own numbers end at 2^53.
const LONG = /"(?:[^"\\]|\\.)*"|-?\d{16,}(?![\d.eE])/g;

/** JSON whose long whole numbers are texts, which `BigInt` reads exactly. */
export function parse(text) {
  return JSON.parse(text.replace(LONG, (found) => (found[0] === '"' ? found : `"${found}"`)));
}

/** RFC 3339 in UTC as nanoseconds since 1970. */
export function instant(text) {
  const [whole, rest = ''] = text.replace(/(Z|\+00:00)$/, '').split('.');
  return BigInt(Date.parse(`${whole}Z`)) * 1_000_000n + BigInt(rest.padEnd(9, '0').slice(0, 9));
}

const two = (value) => String(value).padStart(2, '0');

/** The parts of an instant of the calendar, in UTC. */
export function calendar(ns) {
  const seconds = floor(ns, NS);
  const date = new Date(Number(seconds) * 1000);
  return {
    date: `${date.getUTCFullYear()}-${two(date.getUTCMonth() + 1)}-${two(date.getUTCDate())}`,
    time: `${two(date.getUTCHours())}:${two(date.getUTCMinutes())}:${two(date.getUTCSeconds())}`,
    fraction: String(ns - seconds * NS).padStart(9, '0'),
    day: date.getUTCDate(),
    month: date.getUTCMonth(),
    year: date.getUTCFullYear(),
  };
}

/** Division that rounds down, also below zero. */
export function floor(value, by) {
  const quotient = value / by;
  return value % by < 0n ? quotient - 1n : quotient;
}

/** Date and time of an instant, with so many digits of the second. */
export function moment(ns, digits = 0) {
  const { date, time, fraction } = calendar(ns);
  return `${date} ${time}${digits ? `.${fraction.slice(0, digits)}` : ''}`;
}

/** A duration to the nanosecond, in seconds. */
export function seconds(ns) {
  const sign = ns < 0n ? '-' : '';
  const size = ns < 0n ? -ns : ns;
  const fraction = String(size % NS).padStart(9, '0');
  return `${sign}${(size / NS).toLocaleString('en-US')}.${fraction} s`;
}

const UNITS = [
  [DAY, 'd'],
  [HOUR, 'h'],
  [MINUTE, 'min'],
  [SECOND, 's'],
  [1_000_000n, 'ms'],
  [1_000n, 'µs'],
  [1n, 'ns'],
];

/** A duration in its two largest units, for reading. */
export function roughly(ns) {
  const size = ns < 0n ? -ns : ns;
  const at = UNITS.findIndex(([unit]) => size >= unit);
  if (at < 0) return '0 s';
  const [unit, name] = UNITS[at];
  const first = `${ns < 0n ? '-' : ''}${size / unit} ${name}`;
  const next = UNITS[at + 1];
  const rest = next && (size % unit) / next[0];
  return rest && at < 4 ? `${first} ${rest} ${next[1]}` : first;
}

function scaled(text, digits) {
  const [whole, fraction = ''] = text.replace('-', '').split('.');
  const value = BigInt(whole + fraction.padEnd(digits, '0'));
  return text.startsWith('-') ? -value : value;
}

/** The exact sum of decimal texts. */
export function sum(texts) {
  const digits = Math.max(0, ...texts.map((text) => (text.split('.')[1] ?? '').length));
  const total = texts.reduce((total, text) => total + scaled(text, digits), 0n);
  const size = String(total < 0n ? -total : total).padStart(digits + 1, '0');
  const at = size.length - digits;
  return `${total < 0n ? '-' : ''}${size.slice(0, at)}${digits ? `.${size.slice(at)}` : ''}`;
}

/** A decimal text for reading: thousands apart, at least two digits, no zeros beyond them. */
export function amount(text) {
  const [whole, fraction = ''] = text.split('.');
  const sign = whole.startsWith('-') ? '−' : '';
  const shown = fraction.replace(/0+$/, '').padEnd(2, '0');
  return `${sign}${BigInt(whole.replace('-', '')).toLocaleString('en-US')}.${shown}`;
}

/** A quantity with its unit; nanoseconds of something are shown as seconds of it, exactly. */
export function quantity(text, unit) {
  if (!unit.endsWith('-ns') || text.includes('.')) return `${text} ${unit}`;
  const digits = text.replace('-', '').padStart(10, '0');
  const [whole, fraction] = [digits.slice(0, -9), digits.slice(-9).replace(/0+$/, '')];
  const sign = text.startsWith('-') ? '−' : '';
  const decimals = fraction && `.${fraction}`;
  return `${sign}${BigInt(whole).toLocaleString('en-US')}${decimals} ${unit.slice(0, -2)}s`;
}

/** A binary size. */
export function bytes(count) {
  const names = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];
  let [value, at] = [Number(count), 0];
  while (value >= 1024 && at < names.length - 1) [value, at] = [value / 1024, at + 1];
  const short = value >= 100 || Number.isInteger(value) ? Math.round(value) : value.toFixed(1);
  return `${short} ${names[at]}`;
}

/** The exact difference of two decimal texts. */
export const difference = (one, other) =>
  sum([one, other.startsWith('-') ? other.slice(1) : `-${other}`]);
