//! Size of policies.

use tallyman_tests::policies;

/// Most bytes of the standard policy. It is read, hashed and compiled wherever it is admitted.
const STANDARD_BYTES_MAX: usize = 64 << 10;

#[test]
fn the_standard_policy_stays_small() {
    let bytes = policies::component("standard").len();
    assert!(bytes <= STANDARD_BYTES_MAX, "{bytes} bytes, where {STANDARD_BYTES_MAX} are allowed");
}
