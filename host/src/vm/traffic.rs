//! The traffic of an instance.

/// Bytes and packets that a guest has received and sent since the instance was created, counted in
/// layer 3: with IP headers, without those of the link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Traffic {
    /// Bytes that the guest received.
    pub in_bytes: u64,
    /// Packets that the guest received.
    pub in_packets: u64,
    /// Bytes that the guest sent.
    pub out_bytes: u64,
    /// Packets that the guest sent.
    pub out_packets: u64,
}

impl Traffic {
    /// No traffic.
    pub const NONE: Traffic = Traffic::of([0; 4]);

    /// The traffic of these numbers, in the order of the fields.
    pub const fn of([in_bytes, in_packets, out_bytes, out_packets]: [u64; 4]) -> Self {
        Self { in_bytes, in_packets, out_bytes, out_packets }
    }

    /// The numbers, in the order of the fields.
    pub const fn numbers(self) -> [u64; 4] {
        [self.in_bytes, self.in_packets, self.out_bytes, self.out_packets]
    }

    /// The traffic since `earlier`. A number that is lower than the earlier one adds nothing.
    #[must_use]
    pub fn since(self, earlier: Traffic) -> Traffic {
        self.with(earlier, u64::saturating_sub)
    }

    /// The traffic of both together, at most what a number holds.
    #[must_use]
    pub fn plus(self, more: Traffic) -> Traffic {
        self.with(more, u64::saturating_add)
    }

    fn with(self, other: Traffic, number: fn(u64, u64) -> u64) -> Traffic {
        let mut numbers = self.numbers();
        for (own, other) in numbers.iter_mut().zip(other.numbers()) {
            *own = number(*own, other);
        }
        Traffic::of(numbers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_and_sums_never_leave_the_range() {
        let most = Traffic::of([u64::MAX; 4]);
        let some = Traffic::of([1, 2, 3, 4]);
        assert_eq!(some.plus(some).since(some), some);
        assert_eq!(most.plus(some), most);
        assert_eq!(some.since(most), Traffic::NONE);
        assert_eq!(Traffic::of(some.numbers()), some);
    }
}
