"""What time costs. The contract is in wit/; `componentize-py bindings` writes it down as Python, for editors."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import rating
from wit_world.imports.types import S128Words, U128Words

# Ordinals of the phases that are charged: initializing, running.
CHARGED = {1, 2}


class Rating(exports.Rating):
    def rate(self, request: rating.Request) -> rating.Statement:
        """A line for each instance that ran, at the book's price for meter `active`."""
        lines = []
        price = the_price(request)
        if price is not None:
            for subject, covered in by_subject(request.intervals):
                lines.append(line(request, price, subject, covered))
        return rating.Statement(lines=lines, carried=b"")


def the_price(request: rating.Request) -> rating.Price | None:
    """The one price that this policy knows how to use. What it doesn't know it refuses, so that nobody is charged wrongly."""
    book, period = request.book, request.period
    if book.rounding != "half-even" or book.line_digits != 9:
        raise unknown("rounding but half to even, to nano-units")
    if book.adjustments:
        raise unknown("minimums, caps and credits")
    if not book.prices:
        return None
    if len(book.prices) > 1:
        raise unknown("more than one price")
    [price] = book.prices
    if price.meter != "active" or price.unit != "ns":
        raise Err(rating.RatingError_MissingPrice(price.rule))
    if price.model != "flat" or price.windows:
        raise unknown("tiers, packages and hours")
    if price.valid.start > period.start or price.valid.end < period.end:
        raise unknown("prices that change within a period")
    return price


def unknown(what: str) -> Err:
    return Err(rating.RatingError_Other(f"this policy knows no {what}"))


def by_subject(columns: rating.IntervalColumns) -> list[tuple[int, list[int]]]:
    """The intervals that are charged, of each instance that has any."""
    found: list[tuple[int, list[int]]] = []
    for item, (subject, phase) in enumerate(zip(columns.subject, columns.phase)):
        if phase in CHARGED:
            if not found or found[-1][0] != subject:
                found.append((subject, []))
            found[-1][1].append(item)
    return found


def line(request: rating.Request, price: rating.Price, subject: int, covered: list[int]) -> rating.ChargeLine:
    """Quantity times price, rounded once, half to even."""
    columns, unit_price = request.intervals, price.tiers[0].price
    quantity = sum(columns.end[item] - columns.start[item] for item in covered)
    nanos = unit_price.numerator.upper << 64 | unit_price.numerator.lower
    per = unit_price.denominator.upper << 64 | unit_price.denominator.lower
    amount, rest = divmod(quantity * nanos, per)
    if 2 * rest > per or (2 * rest == per and amount % 2):
        amount, rest = amount + 1, rest - per
    return rating.ChargeLine(
        kind="usage",
        rule=price.rule,
        meter=price.meter,
        subject=subject,
        intervals=covered,
        starts=[],
        ends=[],
        sessions=[],
        quantity=U128Words(*words(quantity)),
        billed=U128Words(*words(quantity)),
        unit=price.unit,
        price_id=price.id,
        tier=0,
        price=unit_price,
        amount=S128Words(*words(amount)),
        remainder=S128Words(*words(rest)),
        description=f"{request.subjects[subject].name} ran for {quantity} ns, at {nanos} nano-units for {per} ns",
    )


def words(number: int) -> tuple[int, int]:
    """The low 64 bits, and the rest with the sign."""
    if not -(1 << 127) <= number < 1 << 127:
        raise Err(rating.RatingError_Overflow())
    return number & (1 << 64) - 1, number >> 64
