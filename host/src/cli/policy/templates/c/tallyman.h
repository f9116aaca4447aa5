// The part of a policy in C beside its rules: it fulfils the contract in wit/, so that no time is
// lost or added. Include it once.
//
// Rules are the function `counts_as` and the table `METERS`, with `METERS_END` as its last entry.
// The component's declaration and its measurements follow from the same table, so they can't
// disagree.
//
// An empty list or text that arrives has `len` 0 and a `ptr` that is not an address: check `len`,
// never free or grow it. The bindings free the answer, so lists and texts in it are copies.
//
// Hours of the day, days of the week and amounts are no part of a policy: they stand in the price
// book. Where no price of a meter can say what is charged, `#define OWN_LINES name` before the
// include names a function that states lines, with `add_line`; `#define BILLED_RATIO 2000` says how
// much more than was used they may bill at most, in thousandths.

#ifndef TALLYMAN_H
#define TALLYMAN_H

#include <stdlib.h>
#include <string.h>

#include "policy.h"

enum { PHASES = 8, NO_PHASE = 255 };

enum {
  CREATED = 1 << 0, INITIALIZING = 1 << 1, RUNNING = 1 << 2, PAUSED = 1 << 3,
  SHUTDOWN = 1 << 4, STANDBY = 1 << 5, STOPPED = 1 << 6, UNKNOWN = 1 << 7,
  ALL_PHASES = 255,
};

// The time that a minimum and a granularity apply to; see wit/metering.wit.
enum { START, WAKE, VISIT, LIFE };

#define SECOND_NS UINT64_C(1000000000)
#define MINUTE_NS (60 * SECOND_NS)
#define HOUR_NS (60 * MINUTE_NS)
#define LENGTH_NS_MAX (366 * 24 * HOUR_NS)

typedef struct {
  const char *name;         // in price books: a-z, 0-9, '-', '.', '_'
  const char *counts;       // what it counts, in words
  uint8_t phases;           // which phases, such as RUNNING | PAUSED
  uint8_t stretch;          // START, WAKE, VISIT or LIFE
  uint64_t minimum_ns;      // least time that a stretch owes
  uint64_t granularity_ns;  // its grain, 1 or more; what has begun counts whole
  const char *minimum;      // option that sets another minimum; NULL for none. Sorted from meter to meter
} meter_t;

#define METERS_END {0}

#ifndef BILLED_RATIO
#define BILLED_RATIO 1000
#endif

// The rules.
uint8_t counts_as(uint8_t phase);
extern const meter_t METERS[];

// Accounting

typedef exports_tallyman_policy_accounting_tracker_t tracker_t;
typedef exports_tallyman_policy_accounting_tracker_columns_t tracker_columns_t;
typedef exports_tallyman_policy_accounting_totals_t totals_t;
typedef exports_tallyman_policy_accounting_totals_columns_t totals_columns_t;
typedef exports_tallyman_policy_accounting_accounting_error_t accounting_error_t;

static bool refuse(accounting_error_t *error, uint8_t why, uint32_t item) {
  error->tag = why;
  switch (why) {
    case EXPORTS_TALLYMAN_POLICY_ACCOUNTING_ACCOUNTING_ERROR_TIME_WENT_BACK:
      error->val.time_went_back = item;
      break;
    case EXPORTS_TALLYMAN_POLICY_ACCOUNTING_ACCOUNTING_ERROR_OVERFLOW:
      error->val.overflow = item;
      break;
    default:
      error->val.invalid_state = item;
  }
  return false;
}

// Adds the visit that has gone on since `since` to its total.
static bool visit(uint32_t item, int64_t since, int64_t at, uint64_t *total, accounting_error_t *error) {
  if (at < since) {
    return refuse(error, EXPORTS_TALLYMAN_POLICY_ACCOUNTING_ACCOUNTING_ERROR_TIME_WENT_BACK, item);
  }
  uint64_t passed = (uint64_t)at - (uint64_t)since;
  if (*total > UINT64_MAX - passed) {
    return refuse(error, EXPORTS_TALLYMAN_POLICY_ACCOUNTING_ACCOUNTING_ERROR_OVERFLOW, item);
  }
  *total += passed;
  return true;
}

static uint64_t *total_of(totals_t *totals, uint8_t phase) {
  uint64_t *of[PHASES] = {&totals->created, &totals->initializing, &totals->running, &totals->paused,
                          &totals->shutdown, &totals->standby, &totals->stopped, &totals->unknown};
  return of[phase];
}

bool exports_tallyman_policy_accounting_snapshot(tracker_t *state, int64_t at, totals_t *ret, accounting_error_t *err) {
  *ret = state->totals;
  return !state->current.is_some || visit(0, state->since, at, total_of(ret, state->current.val), err);
}

bool exports_tallyman_policy_accounting_enter(tracker_t *state, uint8_t to, int64_t at, tracker_t *ret, accounting_error_t *err) {
  ret->current.is_some = true;
  ret->current.val = counts_as(to);
  ret->since = at;
  return exports_tallyman_policy_accounting_snapshot(state, at, &ret->totals, err);
}

// Works item by item in the columns of the argument, which the callee owns, and returns them.
static bool visits(tracker_columns_t *states, const int64_t *at, bool same, accounting_error_t *err) {
  totals_columns_t *totals = &states->totals;
  uint64_t *columns[PHASES] = {totals->created.ptr, totals->initializing.ptr, totals->running.ptr, totals->paused.ptr,
                               totals->shutdown.ptr, totals->standby.ptr, totals->stopped.ptr, totals->unknown.ptr};
  for (size_t item = 0; item < states->current.len; item++) {
    uint8_t phase = states->current.ptr[item];
    if (phase == NO_PHASE) {
      continue;
    }
    if (phase >= PHASES) {
      return refuse(err, EXPORTS_TALLYMAN_POLICY_ACCOUNTING_ACCOUNTING_ERROR_INVALID_STATE, item);
    }
    if (!visit(item, states->since.ptr[item], at[same ? 0 : item], &columns[phase][item], err)) {
      return false;
    }
  }
  return true;
}

bool exports_tallyman_policy_accounting_enter_all(tracker_columns_t *states, policy_list_u8_t *to,
                                                  exports_tallyman_policy_accounting_list_instant_t *at,
                                                  tracker_columns_t *ret, accounting_error_t *err) {
  if (!visits(states, at->ptr, false, err)) {
    return false;
  }
  for (size_t item = 0; item < to->len; item++) {
    if (to->ptr[item] >= PHASES) {
      return refuse(err, EXPORTS_TALLYMAN_POLICY_ACCOUNTING_ACCOUNTING_ERROR_INVALID_STATE, item);
    }
    states->current.ptr[item] = counts_as(to->ptr[item]);
    states->since.ptr[item] = at->ptr[item];
  }
  *ret = *states;
  return true;
}

bool exports_tallyman_policy_accounting_snapshot_all(tracker_columns_t *states, int64_t at, totals_columns_t *ret,
                                                     accounting_error_t *err) {
  if (!visits(states, &at, true, err)) {
    return false;
  }
  *ret = states->totals;
  return true;
}

// Metering

typedef exports_tallyman_policy_metering_description_t description_t;
typedef exports_tallyman_policy_metering_request_t request_t;
typedef exports_tallyman_policy_metering_measurement_t measurement_t;
typedef exports_tallyman_policy_metering_meter_description_t meter_description_t;
typedef exports_tallyman_policy_metering_option_description_t option_description_t;
typedef exports_tallyman_policy_metering_meter_terms_t meter_terms_t;
typedef exports_tallyman_policy_metering_metering_error_t metering_error_t;

static size_t meters(void) {
  size_t count = 0;
  while (METERS[count].name) {
    count++;
  }
  return count;
}

// The units of a duration, the longest first.
static const struct {
  const char *name;
  uint64_t ns;
} UNITS[] = {{"h", HOUR_NS}, {"m", MINUTE_NS}, {"s", SECOND_NS}, {"ms", 1000000}, {"ns", 1}};
enum { UNIT_COUNT = sizeof UNITS / sizeof UNITS[0] };

// Formats `ns` as an option's value, in the longest unit in which it is a whole number.
static void write_ns(policy_string_t *to, uint64_t ns) {
  size_t unit = 0;
  while (ns % UNITS[unit].ns) {
    unit++;
  }
  char text[24];
  char *at = text + sizeof text - 1 - strlen(UNITS[unit].name);
  strcpy(at, UNITS[unit].name);
  uint64_t number = ns / UNITS[unit].ns;
  do {
    *--at = '0' + number % 10;
    number /= 10;
  } while (number);
  policy_string_dup(to, at);
}

void exports_tallyman_policy_metering_describe(description_t *ret) {
  size_t count = meters();
  memset(ret, 0, sizeof *ret);
  ret->billed_ratio = BILLED_RATIO;
  ret->meters.ptr = calloc(count, sizeof(meter_description_t));
  ret->meters.len = count;
  ret->options.ptr = calloc(count, sizeof(option_description_t));
  for (size_t n = 0; n < count; n++) {
    meter_description_t *meter = &ret->meters.ptr[n];
    policy_string_dup(&meter->name, METERS[n].name);
    policy_string_dup(&meter->counts, METERS[n].counts);
    meter->stretch = METERS[n].stretch;
    if (METERS[n].minimum) {
      option_description_t *option = &ret->options.ptr[ret->options.len++];
      policy_string_dup(&option->name, METERS[n].minimum);
      option->kind.tag = EXPORTS_TALLYMAN_POLICY_METERING_OPTION_KIND_DURATION;
      write_ns(&option->default_, METERS[n].minimum_ns);
      policy_string_dup(&option->does, "least time that a stretch of its meter owes");
    }
  }
}

static bool is(policy_string_t text, const char *word) {
  return text.len == strlen(word) && memcmp(text.ptr, word, text.len) == 0;
}

// Parses a duration such as 60s, in nanoseconds; false if it is invalid or longer than 366 days.
static bool read_ns(policy_string_t text, uint64_t *ns) {
  uint64_t number = 0;
  size_t at = 0;
  for (; at < text.len && text.ptr[at] >= '0' && text.ptr[at] <= '9'; at++) {
    if (number > LENGTH_NS_MAX) {
      return false;
    }
    number = number * 10 + (text.ptr[at] - '0');
  }
  policy_string_t unit = {.ptr = text.ptr + at, .len = text.len - at};
  uint64_t unit_ns = 0;
  for (size_t n = 0; n < UNIT_COUNT; n++) {
    unit_ns = is(unit, UNITS[n].name) ? UNITS[n].ns : unit_ns;
  }
  if (at == 0 || unit_ns == 0 || number > LENGTH_NS_MAX / unit_ns) {
    return false;
  }
  *ns = number * unit_ns;
  return true;
}

static bool minimum_of(const meter_t *meter, request_t *request, uint64_t *ns) {
  *ns = meter->minimum_ns;
  for (size_t n = 0; meter->minimum && n < request->options.len; n++) {
    if (is(request->options.ptr[n].name, meter->minimum)) {
      return read_ns(request->options.ptr[n].value, ns);
    }
  }
  return true;
}

// Numbers of 128 bits

typedef unsigned __int128 u128;
typedef tallyman_policy_types_u128_words_t u128_words_t;

#define U128_MAX (~(u128)0)

static inline u128_words_t words_of(u128 value) {
  return (u128_words_t){.lower = (uint64_t)value, .upper = (uint64_t)(value >> 64)};
}

// The remainder of a division; clang's own `%` on 128 bits does not link everywhere. A divisor of
// 2^64 or more costs some twenty times the fuel of one below.
static inline u128 remainder_of(u128 value, u128 divisor) {
  return value - value / divisor * divisor;
}

// value * numerator / denominator, rounded up; U128_MAX, which the host refuses, past 128 bits.
static inline u128 share_of(u128 value, uint64_t numerator, uint64_t denominator) {
  u128 whole = value / denominator;
  u128 part = remainder_of(value, denominator) * numerator;
  u128 rest = part / denominator + (remainder_of(part, denominator) != 0);
  if (numerator && whole > (U128_MAX - rest) / numerator) {
    return U128_MAX;
  }
  return whole * numerator + rest;
}

// Lines of the policy's own

typedef exports_tallyman_policy_metering_own_line_t own_line_t;
typedef exports_tallyman_policy_metering_interval_range_t interval_range_t;
typedef exports_tallyman_policy_metering_column_t column_t;

// The sizes of a dimension such as "vcpu" in each interval; NULL if the request does not have it.
static inline const uint64_t *sizes_of(const request_t *request, const char *dimension) {
  for (size_t n = 0; n < request->intervals.dimensions.len; n++) {
    const column_t *column = &request->intervals.dimensions.ptr[n];
    if (is(column->name, dimension)) {
      return column->values.ptr;
    }
  }
  return NULL;
}

// What the intervals from `first` to before `end` held: nanoseconds; with a dimension, its size
// times nanoseconds. 0 for a dimension that the request does not have.
static inline u128 held(const request_t *request, const char *dimension, uint32_t first, uint32_t end) {
  const uint64_t *sizes = dimension ? sizes_of(request, dimension) : NULL;
  u128 sum = 0;
  for (uint32_t at = first; at < end && (sizes || !dimension); at++) {
    uint64_t nanos = (uint64_t)request->intervals.end.ptr[at] - (uint64_t)request->intervals.start.ptr[at];
    sum += (u128)nanos * (sizes ? sizes[at] : 1);
  }
  return sum;
}

// Adds a line about one instance's intervals from `first` to before `end`, at least one. Add lines
// sorted by rule, meter and subject; of one rule, meter and unit no two may name one interval. NULL,
// and no line, for a dimension that the request does not have.
static inline own_line_t *add_line(measurement_t *to, const request_t *request, const char *rule, const char *meter,
                                   const char *dimension, const char *price_id, uint32_t first, uint32_t end) {
  if (dimension && !sizes_of(request, dimension)) {
    return NULL;
  }
  own_line_t *lines = realloc(to->lines.len ? to->lines.ptr : NULL, (to->lines.len + 1) * sizeof(own_line_t));
  own_line_t *line = &lines[to->lines.len];
  to->lines.ptr = lines;
  to->lines.len += 1;
  memset(line, 0, sizeof *line);
  policy_string_dup(&line->rule, rule);
  policy_string_dup(&line->meter, meter);
  policy_string_dup(&line->price_id, price_id);
  policy_string_dup(&line->description, rule);
  char unit[64] = "ns";
  if (dimension && strlen(dimension) < sizeof unit - 3) {
    strcpy(unit, dimension);
    strcat(unit, "-ns");
  }
  policy_string_dup(&line->unit, unit);
  line->subject.is_some = true;
  line->subject.val = request->intervals.subject.ptr[first];
  line->intervals.ptr = malloc(sizeof(interval_range_t));
  line->intervals.ptr[0] = (interval_range_t){.first = first, .end = end};
  line->intervals.len = 1;
  line->quantity = words_of(held(request, dimension, first, end));
  line->billed = line->quantity;
  return line;
}

#ifdef OWN_LINES
void OWN_LINES(request_t *request, measurement_t *ret);
#endif

// The mask of an interval follows from its phase alone.
bool exports_tallyman_policy_metering_measure(request_t *request, measurement_t *ret, metering_error_t *err) {
  size_t count = meters(), items = request->intervals.phase.len;
  uint64_t masks[256] = {0};
  memset(ret, 0, sizeof *ret);
  ret->terms.ptr = calloc(count, sizeof(meter_terms_t));
  ret->terms.len = count;
  for (size_t n = 0; n < count; n++) {
    meter_terms_t *terms = &ret->terms.ptr[n];
    if (!minimum_of(&METERS[n], request, &terms->minimum)) {
      err->tag = EXPORTS_TALLYMAN_POLICY_METERING_METERING_ERROR_INVALID_OPTION;
      policy_string_dup(&err->val.invalid_option, METERS[n].minimum);
      return false;
    }
    policy_string_dup(&terms->name, METERS[n].name);
    terms->stretch = METERS[n].stretch;
    terms->granularity = METERS[n].granularity_ns;
    terms->rounding = EXPORTS_TALLYMAN_POLICY_METERING_ROUNDING_UP;
    for (size_t phase = 0; phase < PHASES; phase++) {
      masks[phase] |= (uint64_t)(METERS[n].phases >> phase & 1) << n;
    }
  }
  ret->counted.ptr = calloc(items, sizeof(uint64_t));
  ret->counted.len = items;
  for (size_t item = 0; item < items; item++) {
    ret->counted.ptr[item] = masks[request->intervals.phase.ptr[item]];
  }
#ifdef OWN_LINES
  OWN_LINES(request, ret);
#endif
  return true;
}

#endif
