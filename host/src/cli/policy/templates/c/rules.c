// The rules of a policy: the time that counts, and the meters that count it.

#include "tallyman.h"

// The phase under which time in `phase` counts in totals. It must always be the same one.
uint8_t counts_as(uint8_t phase) {
  if (phase == TALLYMAN_POLICY_TYPES_PHASE_INITIALIZING) {
    return TALLYMAN_POLICY_TYPES_PHASE_RUNNING;
  }
  return phase;
}

// The meters that prices are for, in the order of their bits.
const meter_t METERS[] = {
    {"active", "time in initializing, running", INITIALIZING | RUNNING, WAKE, MINUTE_NS, SECOND_NS, "minimum"},
    {"allocated", "all time from the creation to the deletion", ALL_PHASES, LIFE, 0, 1, NULL},
    METERS_END,
};
