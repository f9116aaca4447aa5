"""The rules of a policy: the time that counts, and the meters that count it.

The contract is in wit/; `componentize-py bindings` generates Python from it, for editors.
"""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import metering

# The meters, for the declaration and for the measurement, so that the two can't disagree.
# Name, ordinals of the phases that count (see wit/types.wit), what they are in words, the stretch.
METERS = [
    ("active", {1, 2}, "time in initializing, running", metering.Stretch.WAKE),
    ("allocated", set(range(8)), "all time from the creation to the deletion", metering.Stretch.LIFE),
]
MINIMUM = ("minimum", "60s", "least time that a start owes on the meter active")
# A second that has begun counts whole.
GRAIN_NS = 1_000_000_000
UNITS_NS = {"ns": 1, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3_600 * 10**9}


class Metering(exports.Metering):
    def describe(self) -> metering.Description:
        name, default, does = MINIMUM
        return metering.Description(
            meters=[metering.MeterDescription(name, counts, stretch) for name, _, counts, stretch in METERS],
            options=[metering.OptionDescription(name, metering.OptionKind_Duration(), default, does)],
            billed_ratio=1_000,
        )

    def measure(self, request: metering.Request) -> metering.Measurement:
        """The mask of an interval follows from its phase alone."""
        masks = [
            sum(1 << bit for bit, (_, phases, _, _) in enumerate(METERS) if phase in phases) for phase in range(8)
        ]
        minimum_ns = duration_ns(option(request, *MINIMUM[:2]))
        return metering.Measurement(
            terms=[
                metering.MeterTerms("active", metering.Stretch.WAKE, minimum_ns, GRAIN_NS, metering.Rounding.UP),
                metering.MeterTerms("allocated", metering.Stretch.LIFE, 0, 1, metering.Rounding.UP),
            ],
            counted=[masks[phase] for phase in request.intervals.phase],
            lines=[],
        )


def option(request: metering.Request, name: str, default: str) -> str:
    return next((setting.value for setting in request.options if setting.name == name), default)


def duration_ns(text: str) -> int:
    """Parses a duration such as 60s, in nanoseconds. The host refuses invalid ones, but not long ones."""
    digits = text.rstrip("nmsh")
    length = int(digits) * UNITS_NS[text[len(digits) :]]
    if length > 366 * 24 * UNITS_NS["h"]:
        raise Err(metering.MeteringError_InvalidOption(f"minimum: {text} is longer than 366 days"))
    return length
