// What time costs. The contract is in wit/.

export const rating = {
  // Rates one period of one tenant.
  //
  // States nothing yet: a charge line for each thing that costs something goes in here. What the policy can't rate it refuses by throwing, as
  // below.
  rate(request) {
    const { start, end } = request.intervals;
    for (let item = 0; item < start.length; item += 1) {
      if (end[item] < start[item]) {
        throw { tag: 'other', val: 'an interval ends before it begins' };
      }
    }
    return { lines: [], carried: request.carried };
  },
};
