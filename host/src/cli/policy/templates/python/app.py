"""What time costs. The contract is in wit/; `componentize-py bindings` writes it down as Python, for editors."""

from componentize_py_types import Err
from wit_world import exports
from wit_world.exports import rating


class Rating(exports.Rating):
    def rate(self, request: rating.Request) -> rating.Statement:
        """Rates one period of one tenant.

        States nothing yet: a charge line for each thing that costs something goes in here. What the policy can't rate it refuses, as below.
        """
        columns = request.intervals
        for start, end in zip(columns.start, columns.end):
            if end < start:
                raise Err(rating.RatingError_Other("an interval ends before it begins"))
        return rating.Statement(lines=[], carried=request.carried)
