// One machine's time on a canvas. Instants are BigInt nanoseconds of the meter clock; only what is
// drawn becomes a coordinate.

import { DAY, HOUR, MINUTE, SECOND, calendar, floor } from './exact.js';
import { PHASES } from './ui.js';

const LEAST = 100n;
const BAND = { top: 46, height: 64 };
const STEPS = [];
for (let unit = 1n; unit < SECOND; unit *= 10n) STEPS.push(unit, 2n * unit, 5n * unit);
for (const count of [1n, 2n, 5n, 10n, 15n, 30n]) STEPS.push(count * SECOND);
for (const count of [1n, 2n, 5n, 10n, 15n, 30n]) STEPS.push(count * MINUTE);
for (const count of [1n, 2n, 3n, 6n, 12n]) STEPS.push(count * HOUR);
for (const count of [1n, 2n, 7n, 14n, 30n, 91n, 365n]) STEPS.push(count * DAY);

/** What the intervals are as columns, with sums so that any stretch is added up at once. */
export class Time {
  constructor(intervals) {
    const count = intervals.length;
    this.count = count;
    this.starts = new BigInt64Array(count + 1);
    this.phases = new Uint8Array(count);
    this.sums = PHASES.map(() => new Float64Array(count + 1));
    this.gaps = [];
    this.notes = [];
    intervals.forEach((one, at) => {
      const start = BigInt(one.start_ns);
      const end = BigInt(one.end_ns);
      if (at && start !== this.starts[at]) this.gaps.push([this.starts[at], start]);
      this.starts[at] = start;
      this.starts[at + 1] = end;
      this.phases[at] = PHASES.indexOf(one.phase);
      this.sums.forEach((sums, phase) => {
        sums[at + 1] = sums[at] + (phase === this.phases[at] ? Number(end - start) : 0);
      });
      if (one.phase === 'unknown' || one.cause === 'crashed' || one.cause === 'host-lost')
        this.notes.push([start, one.phase === 'unknown' ? end : start]);
    });
    this.start = count ? this.starts[0] : 0n;
    this.end = count ? this.starts[count] : 1n;
  }

  /** The interval that holds an instant; the nearest one outside. */
  at(instant) {
    let [low, high] = [0, this.count - 1];
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (this.starts[middle] <= instant) low = middle;
      else high = middle - 1;
    }
    return low;
  }

  /** Time in each phase between two instants, from `first` on; answers the second's interval. */
  between(from, to, first, into) {
    into.fill(0);
    let last = first;
    // Columns follow each other: the next one is near.
    let stride = 1;
    while (last + stride < this.count && this.starts[last + stride] <= to)
      [last, stride] = [last + stride, stride * 2];
    for (; stride >= 1; stride = stride >> 1) {
      if (last + stride < this.count && this.starts[last + stride] <= to) last += stride;
    }
    if (last === first) {
      into[this.phases[first]] = Number(to - from);
      return last;
    }
    for (let phase = 0; phase < into.length; phase += 1)
      into[phase] = this.sums[phase][last] - this.sums[phase][first + 1];
    into[this.phases[first]] += Number(this.starts[first + 1] - from);
    into[this.phases[last]] += Number((to < this.end ? to : this.end) - this.starts[last]);
    return last;
  }
}

export class Timeline {
  constructor(canvas, { changed, picked }) {
    Object.assign(this, { canvas, changed, picked, marks: [], selected: -1 });
    this.paint = canvas.getContext('2d', { alpha: false });
    this.pointers = new Map();
    this.watch = new ResizeObserver(() => this.draw());
    this.watch.observe(canvas);
    this.dark = matchMedia('(prefers-color-scheme: dark)');
    this.dark.addEventListener('change', this.draw);
    this.style = new MutationObserver(this.draw);
    this.style.observe(document.documentElement, { attributes: true });
    canvas.addEventListener('wheel', this.wheel, { passive: false });
    for (const [name, handle] of [
      ['pointerdown', this.down],
      ['pointermove', this.move],
      ['pointerup', this.up],
      ['pointercancel', this.up],
    ])
      canvas.addEventListener(name, handle);
  }

  close() {
    this.watch.disconnect();
    this.style.disconnect();
    this.dark.removeEventListener('change', this.draw);
    cancelAnimationFrame(this.frame);
  }

  /** Sets what is shown. Whoever looks at the end goes on looking at the end. */
  set(time, marks, offset) {
    const atEnd = !this.time || this.from + this.span >= this.time.end;
    const whole = !this.time || (atEnd && this.from <= this.time.start);
    Object.assign(this, { time, marks, offset });
    if (whole) this.whole();
    else if (atEnd) this.show(time.end - this.span, this.span);
    else this.draw();
  }

  whole() {
    this.show(this.time.start, this.time.end - this.time.start);
  }

  /** Shows a stretch, kept near to where there is something. */
  show(from, span) {
    const life = this.time.end - this.time.start;
    const most = life > LEAST ? life + life / 20n : LEAST;
    this.span = span < LEAST ? LEAST : span > most ? most : span;
    const least = this.time.start - this.span / 2n;
    const last = this.time.end - this.span / 2n;
    this.from = from < least ? least : from > last ? last : from;
    this.changed?.(this.from, this.span);
    this.draw();
  }

  zoom(factor, share = 0.5) {
    const held = this.from + BigInt(Math.round(Number(this.span) * share));
    const scaled = (this.span * BigInt(Math.round(factor * 1_000_000))) / 1_000_000n;
    const span = scaled === this.span ? this.span + (factor > 1 ? 1n : -1n) : scaled;
    this.show(held - BigInt(Math.round(Number(span < LEAST ? LEAST : span) * share)), span);
  }

  pan(share) {
    this.show(this.from + BigInt(Math.round(Number(this.span) * share)), this.span);
  }

  key(event) {
    const acts = {
      ArrowLeft: () => this.pan(-0.1),
      ArrowRight: () => this.pan(0.1),
      PageUp: () => this.pan(-0.9),
      PageDown: () => this.pan(0.9),
      '+': () => this.zoom(0.5),
      '=': () => this.zoom(0.5),
      '-': () => this.zoom(2),
      0: () => this.whole(),
      Home: () => this.show(this.time.start, this.span),
      End: () => this.show(this.time.end - this.span, this.span),
    };
    const act = !event.ctrlKey && !event.metaKey && acts[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  }

  wheel = (event) => {
    event.preventDefault();
    const box = this.canvas.getBoundingClientRect();
    const delta = event.deltaMode === 1 ? event.deltaY * 30 : event.deltaY;
    if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY))
      this.pan((event.deltaX || delta) / box.width);
    else
      this.zoom(
        Math.exp(Math.max(-400, Math.min(400, delta)) / 300),
        (event.clientX - box.left) / box.width,
      );
  };

  down = (event) => {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event.clientX);
    this.moved = 0;
  };

  move = (event) => {
    if (!this.pointers.has(event.pointerId)) return;
    const before = [...this.pointers.values()];
    const delta = event.clientX - this.pointers.get(event.pointerId);
    this.pointers.set(event.pointerId, event.clientX);
    this.moved += Math.abs(delta);
    const { width, left } = this.canvas.getBoundingClientRect();
    const after = [...this.pointers.values()];
    if (after.length === 1) this.pan(-delta / width);
    else
      this.zoom(
        Math.max(1, Math.abs(before[0] - before[1])) / Math.max(1, Math.abs(after[0] - after[1])),
        ((after[0] + after[1]) / 2 - left) / width,
      );
  };

  up = (event) => {
    this.pointers.delete(event.pointerId);
    if (event.type !== 'pointerup' || this.moved > 4 || this.pointers.size) return;
    const box = this.canvas.getBoundingClientRect();
    const instant =
      this.from + BigInt(Math.round((Number(this.span) * (event.clientX - box.left)) / box.width));
    this.select(instant < this.time.start || instant >= this.time.end ? -1 : this.time.at(instant));
    this.picked?.(this.selected);
  };

  select(at) {
    this.selected = at;
    this.draw();
  }

  draw = () => {
    if (this.frame || !this.time) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.render();
    });
  };

  colours() {
    const style = getComputedStyle(this.canvas);
    const of = (name) => style.getPropertyValue(name).trim();
    return {
      ground: of('--panel'),
      line: of('--line'),
      text: of('--muted'),
      ink: of('--ink'),
      bad: of('--bad'),
      accent: of('--accent'),
      phases: PHASES.map((name) => of(`--${name}`)),
    };
  }

  x(instant) {
    return (Number(instant - this.from) / Number(this.span)) * this.width;
  }

  render() {
    const { canvas, paint } = this;
    const ratio = devicePixelRatio || 1;
    this.width = canvas.clientWidth;
    const height = canvas.clientHeight;
    if (canvas.width !== Math.round(this.width * ratio))
      canvas.width = Math.round(this.width * ratio);
    if (canvas.height !== Math.round(height * ratio)) canvas.height = Math.round(height * ratio);
    paint.setTransform(ratio, 0, 0, ratio, 0, 0);
    const colours = this.colours();
    paint.fillStyle = colours.ground;
    paint.fillRect(0, 0, this.width, height);
    this.axis(colours);
    this.band(colours);
    this.attention(colours);
    this.marked(colours);
  }

  axis(colours) {
    const { paint } = this;
    const room = (this.span * BigInt(110)) / BigInt(Math.max(1, Math.round(this.width)));
    const step = STEPS.find((one) => one >= room) ?? STEPS[STEPS.length - 1];
    const begin = this.from + this.offset(this.from);
    paint.font = '12px system-ui, sans-serif';
    paint.textBaseline = 'middle';
    paint.fillStyle = colours.text;
    paint.strokeStyle = colours.line;
    paint.beginPath();
    let day = '';
    for (let at = floor(begin, step) * step; at <= begin + this.span; at += step) {
      const x = Math.round((Number(at - begin) / Number(this.span)) * this.width) + 0.5;
      if (x < -120) continue;
      paint.moveTo(x, 24);
      paint.lineTo(x, BAND.top + BAND.height + 12);
      const { date, time, fraction } = calendar(at);
      const digits = step >= SECOND ? 0 : 10 - String(step).length;
      const decimals = digits ? `.${fraction.slice(0, digits)}` : '';
      const clock = step >= MINUTE ? time.slice(0, 5) : `${time}${decimals}`;
      const label = step >= DAY ? date : clock;
      if (x >= 0) paint.fillText(label, x + 4, 32);
      if (date !== day && step < DAY) paint.fillText(date, Math.max(4, x + 4), 12);
      day = date;
    }
    paint.stroke();
  }

  band(colours) {
    const { time, paint } = this;
    if (!time.count) return;
    const to = this.from + this.span;
    const first = time.at(this.from);
    const last = time.at(to);
    if (last - first > this.width) this.columns(colours, first);
    else for (let at = first; at <= last; at += 1) this.piece(colours, at);
    for (const [from, to] of time.gaps) this.hatched(this.x(from), this.x(to), colours.bad);
    if (this.selected >= 0 && this.selected < time.count) {
      const [left, right] = [
        this.x(time.starts[this.selected]),
        this.x(time.starts[this.selected + 1]),
      ];
      paint.strokeStyle = colours.ink;
      paint.lineWidth = 2;
      paint.strokeRect(
        Math.max(-4, left),
        BAND.top - 1,
        Math.max(2, Math.min(this.width + 4, right) - Math.max(-4, left)),
        BAND.height + 2,
      );
      paint.lineWidth = 1;
    }
  }

  piece(colours, at) {
    const { time, paint } = this;
    const left = Math.max(-2, this.x(time.starts[at]));
    const right = Math.min(this.width + 2, this.x(time.starts[at + 1]));
    if (right <= left) return;
    const name = PHASES[time.phases[at]];
    paint.fillStyle = colours.phases[time.phases[at]];
    paint.fillRect(left, BAND.top, right - left, BAND.height);
    if (name === 'unknown') this.hatched(left, right, colours.ground);
    if (right - left > 64) {
      paint.fillStyle = '#fff';
      paint.font = '600 12px system-ui, sans-serif';
      paint.fillText(name, Math.max(left, 0) + 8, BAND.top + BAND.height / 2);
    }
  }

  // More intervals than pixels: each column has the shares of its phases, stacked.
  columns(colours, first) {
    const { time, paint, span, width } = this;
    const shares = new Float64Array(PHASES.length);
    const count = Math.ceil(width);
    let [at, from] = [first, this.from > time.start ? this.from : time.start];
    for (let column = 0; column < count; column += 1) {
      const edge = this.from + (span * BigInt(column + 1)) / BigInt(count);
      const to = edge > time.end ? time.end : edge;
      if (to <= from) continue;
      at = time.between(from, to, at, shares);
      const whole = Number(to - from);
      let top = BAND.top + BAND.height;
      for (let phase = 0; phase < shares.length; phase += 1) {
        if (!shares[phase]) continue;
        const height = (shares[phase] / whole) * BAND.height;
        top -= height;
        paint.fillStyle = colours.phases[phase];
        paint.fillRect(column, top, 1, height);
      }
      from = to;
    }
  }

  hatched(left, right, colour) {
    const { paint } = this;
    paint.save();
    paint.beginPath();
    paint.rect(left, BAND.top, Math.max(2, right - left), BAND.height);
    paint.clip();
    paint.strokeStyle = colour;
    paint.beginPath();
    for (
      let x = Math.floor((Math.max(0, left) - BAND.height) / 8) * 8;
      x < Math.min(this.width, right + 2);
      x += 8
    ) {
      paint.moveTo(x, BAND.top + BAND.height);
      paint.lineTo(x + BAND.height, BAND.top);
    }
    paint.stroke();
    paint.restore();
  }

  // However short: what is unknown, missing or crashed has a mark of its own above the band.
  attention(colours) {
    const { paint } = this;
    paint.fillStyle = colours.bad;
    let last = -9;
    for (const [from, to] of [...this.time.notes, ...this.time.gaps]) {
      const [left, right] = [this.x(from), this.x(to)];
      if (right < 0 || left > this.width || right - last < 1) continue;
      paint.fillRect(left, BAND.top - 6, Math.max(3, right - left), 4);
      last = Math.max(right, left + 3);
    }
  }

  marked(colours) {
    const { paint } = this;
    const top = BAND.top + BAND.height;
    paint.font = '11px system-ui, sans-serif';
    let free = [-9, -9];
    for (const { at, kind, label } of this.marks) {
      const x = Math.round(this.x(at)) + 0.5;
      if (x < 0 || x > this.width) continue;
      const row = kind === 'prices' ? 1 : 0;
      paint.strokeStyle = paint.fillStyle = colours.ink;
      paint.beginPath();
      paint.moveTo(x, BAND.top - 8);
      paint.lineTo(x, top + 8 + row * 16);
      paint.stroke();
      paint.beginPath();
      if (row) paint.rect(x - 4, top + 22, 8, 8);
      else
        [
          [x - 5, top + 14],
          [x + 5, top + 14],
          [x, top + 5],
        ].forEach(([x, y], at) => (at ? paint.lineTo(x, y) : paint.moveTo(x, y)));
      paint.fill();
      const text = `${kind === 'prices' ? 'prices' : 'policy'} ${label}`;
      const width = paint.measureText(text).width;
      if (x + 8 > free[row] && x + 8 + width < this.width) {
        paint.fillText(text, x + 8, top + 12 + row * 15);
        free[row] = x + 12 + width;
      }
    }
  }
}
