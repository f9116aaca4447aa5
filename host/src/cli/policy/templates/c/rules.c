// How time counts, and what it costs.
//
// `counts_as` is what you will want to change first. Everything else keeps the promises of wit/: no time is lost or made.

#include <stdlib.h>

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

// States nothing yet: a charge line for each thing that costs something goes in here.
bool exports_tallyman_policy_rating_rate(exports_tallyman_policy_rating_request_t *request,
                                         exports_tallyman_policy_rating_statement_t *ret,
                                         exports_tallyman_policy_rating_rating_error_t *err) {
  (void)err;
  ret->lines.ptr = NULL;
  ret->lines.len = 0;
  ret->carried = request->carried;
  return true;
}
