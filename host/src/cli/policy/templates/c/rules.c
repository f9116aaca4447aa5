// Which time counts, and for which meters.

#include "tallyman.h"

// Under which phase time in `phase` counts in totals. The same phase must always count as the same phase.
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
