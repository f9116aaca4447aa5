//! The confinement of virtual machine monitors, as far as this kernel has it.

use crate::hypervisor::{Confinement, confinement};

/// Says so if this kernel can't keep virtual machine monitors from the daemon's files.
pub(super) fn warn() {
    match confinement() {
        Confinement::Full => {}
        Confinement::Files => tracing::warn!(
            "virtual machine monitors reach no file of others, but may signal processes of this \
             user: Linux 6.12 or later prevents that"
        ),
        Confinement::None => tracing::warn!(
            "virtual machine monitors are not confined, and what breaks out of one reaches the \
             journal: this kernel has no Landlock (Linux 5.13, with `landlock` in its list of \
             security modules)"
        ),
    }
}
