// How time counts, and what it costs.
//
// `counts_as` is what you will want to change first. Everything else keeps the promises of wit/: no time is lost or made.

#include <stdlib.h>
#include <string.h>

#include "policy.h"

typedef exports_tallyman_policy_accounting_tracker_t tracker_t;
typedef exports_tallyman_policy_accounting_tracker_columns_t tracker_columns_t;
typedef exports_tallyman_policy_accounting_totals_t totals_t;
typedef exports_tallyman_policy_accounting_totals_columns_t totals_columns_t;
typedef exports_tallyman_policy_accounting_accounting_error_t error_t;

enum { PHASES = 8, NO_PHASE = 255 };

// Under which phase time in `phase` counts. The same phase must always count as the same phase.
static uint8_t counts_as(uint8_t phase) {
  if (phase == TALLYMAN_POLICY_TYPES_PHASE_INITIALIZING) {
    return TALLYMAN_POLICY_TYPES_PHASE_RUNNING;
  }
  return phase;
}

static bool refuse(error_t *error, uint8_t why, uint32_t item) {
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
static bool visit(uint32_t item, int64_t since, int64_t at, uint64_t *total, error_t *error) {
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

bool exports_tallyman_policy_accounting_snapshot(tracker_t *state, int64_t at, totals_t *ret, error_t *err) {
  *ret = state->totals;
  return !state->current.is_some || visit(0, state->since, at, total_of(ret, state->current.val), err);
}

bool exports_tallyman_policy_accounting_enter(tracker_t *state, uint8_t to, int64_t at, tracker_t *ret, error_t *err) {
  ret->current.is_some = true;
  ret->current.val = counts_as(to);
  ret->since = at;
  return exports_tallyman_policy_accounting_snapshot(state, at, &ret->totals, err);
}

// Item by item in the columns that came: they are ours, and go back as the answer.
static bool visits(tracker_columns_t *states, const int64_t *at, bool same, error_t *err) {
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
                                                  tracker_columns_t *ret, error_t *err) {
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
                                                     error_t *err) {
  if (!visits(states, &at, true, err)) {
    return false;
  }
  *ret = states->totals;
  return true;
}

typedef exports_tallyman_policy_rating_request_t request_t;
typedef exports_tallyman_policy_rating_price_t price_t;
typedef exports_tallyman_policy_rating_charge_line_t line_t;
typedef exports_tallyman_policy_rating_rating_error_t rating_error_t;
typedef unsigned __int128 u128;

static bool is(policy_string_t text, const char *word) {
  return text.len == strlen(word) && memcmp(text.ptr, word, text.len) == 0;
}

static void copy(policy_string_t *to, policy_string_t from) {
  policy_string_dup_n(to, (const char *)from.ptr, from.len);
}

// Memory, or the end of this call: the host says then that the policy failed.
static void *memory(size_t count, size_t bytes) {
  void *room = calloc(count, bytes);
  if (room == NULL && count != 0) {
    __builtin_trap();
  }
  return room;
}

static bool unknown(rating_error_t *error, const char *what) {
  error->tag = EXPORTS_TALLYMAN_POLICY_RATING_RATING_ERROR_OTHER;
  policy_string_dup(&error->val.other, what);
  return false;
}

// The one price that this policy knows how to use; NULL if nothing is priced. What it doesn't know it refuses, so that nobody is charged
// wrongly.
static bool the_price(const request_t *request, const price_t **price, rating_error_t *error) {
  const exports_tallyman_policy_rating_price_book_t *book = &request->book;
  *price = book->prices.len == 0 ? NULL : book->prices.ptr;
  if (!is(book->rounding, "half-even") || book->line_digits != 9) {
    return unknown(error, "this policy knows no rounding but half to even, to nano-units");
  }
  if (book->adjustments.len != 0) {
    return unknown(error, "this policy knows no minimums, caps and credits");
  }
  if (book->prices.len > 1) {
    return unknown(error, "this policy knows no more than one price");
  }
  if (*price == NULL) {
    return true;
  }
  if (!is((*price)->meter, "active") || !is((*price)->unit, "ns")) {
    error->tag = EXPORTS_TALLYMAN_POLICY_RATING_RATING_ERROR_MISSING_PRICE;
    copy(&error->val.missing_price, (*price)->rule);
    return false;
  }
  if (!is((*price)->model, "flat") || (*price)->windows.len != 0) {
    return unknown(error, "this policy knows no tiers, packages and hours");
  }
  if ((*price)->valid.start > request->period.start || (*price)->valid.end < request->period.end) {
    return unknown(error, "this policy knows no prices that change within a period");
  }
  return true;
}

// A line without an interval yet, with room for so many.
static void begin(line_t *line, const price_t *price, uint32_t subject, size_t room) {
  policy_string_dup(&line->kind, "usage");
  copy(&line->rule, price->rule);
  copy(&line->meter, price->meter);
  copy(&line->unit, price->unit);
  copy(&line->price_id, price->id);
  line->subject.is_some = true;
  line->subject.val = subject;
  line->intervals.ptr = memory(room, sizeof(uint32_t));
  line->price = price->tiers.ptr[0].price;
}

// Writes a number behind a text.
static void append(policy_string_t *text, u128 number) {
  char digits[40];
  size_t first = sizeof digits;
  do {
    digits[--first] = (char)('0' + (int)(number % 10));
    number /= 10;
  } while (number != 0);
  for (; first < sizeof digits; first++) {
    text->ptr[text->len++] = (uint8_t)digits[first];
  }
}

static void append_words(policy_string_t *text, const char *words) {
  memcpy(text->ptr + text->len, words, strlen(words));
  text->len += strlen(words);
}

// Puts quantity times price on the line, rounded once, half to even.
static bool charge(line_t *line, policy_string_t name, rating_error_t *error) {
  const u128 limit = (u128)1 << 126;
  u128 ns = (u128)line->quantity.upper << 64 | line->quantity.lower;
  u128 nanos = (u128)line->price.numerator.upper << 64 | line->price.numerator.lower;
  u128 per = (u128)line->price.denominator.upper << 64 | line->price.denominator.lower;
  u128 exact;
  if (__builtin_mul_overflow(ns, nanos, &exact) || exact >= limit || per >= limit) {
    error->tag = EXPORTS_TALLYMAN_POLICY_RATING_RATING_ERROR_OVERFLOW;
    return false;
  }
  u128 amount = exact / per, rest = exact % per;
  bool up = rest > per - rest || (rest == per - rest && amount % 2 == 1);
  amount += up ? 1 : 0;
  __int128 left = (__int128)rest - (up ? (__int128)per : 0);
  line->billed = line->quantity;
  line->amount.lower = (uint64_t)amount;
  line->amount.upper = (int64_t)(amount >> 64);
  line->remainder.lower = (uint64_t)left;
  line->remainder.upper = (int64_t)(left >> 64);

  line->description.ptr = memory(name.len + 256, 1);
  memcpy(line->description.ptr, name.ptr, name.len);
  line->description.len = name.len;
  append_words(&line->description, " ran for ");
  append(&line->description, ns);
  append_words(&line->description, " ns, at ");
  append(&line->description, nanos);
  append_words(&line->description, " nano-units for ");
  append(&line->description, per);
  append_words(&line->description, " ns");
  return true;
}

// A line for each instance that ran, at the book's price for meter `active`.
bool exports_tallyman_policy_rating_rate(request_t *request, exports_tallyman_policy_rating_statement_t *ret,
                                         rating_error_t *err) {
  const exports_tallyman_policy_rating_interval_columns_t *columns = &request->intervals;
  const price_t *price;
  if (!the_price(request, &price, err)) {
    return false;
  }
  size_t items = price == NULL ? 0 : columns->phase.len;
  line_t *lines = memory(request->subjects.len, sizeof(line_t));
  size_t count = 0;
  for (size_t item = 0; item < items; item++) {
    if (counts_as(columns->phase.ptr[item]) != TALLYMAN_POLICY_TYPES_PHASE_RUNNING) {
      continue;
    }
    uint32_t subject = columns->subject.ptr[item];
    if (count == 0 || lines[count - 1].subject.val != subject) {
      size_t end = item;
      while (end < items && columns->subject.ptr[end] == subject) {
        end++;
      }
      begin(&lines[count++], price, subject, end - item);
    }
    line_t *line = &lines[count - 1];
    line->intervals.ptr[line->intervals.len++] = (uint32_t)item;
    u128 ns = (u128)line->quantity.upper << 64 | line->quantity.lower;
    ns += (uint64_t)columns->end.ptr[item] - (uint64_t)columns->start.ptr[item];
    line->quantity.lower = (uint64_t)ns;
    line->quantity.upper = (uint64_t)(ns >> 64);
  }
  for (size_t number = 0; number < count; number++) {
    if (!charge(&lines[number], request->subjects.ptr[lines[number].subject.val].name, err)) {
      return false;
    }
  }
  ret->lines.ptr = lines;
  ret->lines.len = count;
  ret->carried = request->carried;
  return true;
}
