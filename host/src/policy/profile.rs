//! The two sets of bounds that a policy is admitted and run under.

use std::fmt;
use std::str::FromStr;

use crate::id::IdError;
use crate::limits::policy::{self as compact, large};

/// The set of bounds of a policy. Chosen at the upload, and fixed from then on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Profile {
    /// Bounds for compiled languages. Both worlds are admitted.
    #[default]
    Compact,
    /// Bounds for components that include an interpreter. Only world `meter` is admitted.
    Large,
}

/// The fuel of a metering call, by the size of its request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeteringFuel {
    /// Fuel of every call.
    pub base: u64,
    /// Fuel for each interval.
    pub per_interval: u64,
    /// Fuel for each value of a dimension or a count.
    pub per_value: u64,
    /// Fuel for each instance.
    pub per_subject: u64,
    /// Fuel for each option and each tag.
    pub per_setting: u64,
}

/// The bounds of a component and of its calls; see [`crate::limits::policy`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Largest component in bytes.
    pub component_bytes_max: usize,
    /// Most processor time to compile a component, in seconds.
    pub compile_cpu_s_max: u64,
    /// Most memory to compile a component, in bytes.
    pub compile_bytes_max: u64,
    /// Largest artifact of a compiled component, in bytes.
    pub artifact_bytes_max: u64,
    /// Most functions in a component.
    pub functions_max: u32,
    /// Largest custom section in bytes.
    pub custom_section_bytes_max: usize,
    /// Most linear memory of one call in bytes.
    pub memory_bytes_max: usize,
    /// Most table elements of one call.
    pub table_elements_max: usize,
    /// Most stack of one call in bytes.
    pub stack_bytes_max: usize,
    /// Fuel of a metering call.
    pub metering_fuel: MeteringFuel,
    /// Most wall-clock time of one call, in ticks of [`TICK_MS`](crate::limits::policy::TICK_MS).
    pub deadline_ticks: u64,
    /// Most calls under way at once.
    pub instances_max: u32,
    /// Most core instances inside a component.
    pub core_instances_max: u32,
    /// Most tables inside a component.
    pub tables_max: u32,
}

const COMPACT: Bounds = Bounds {
    component_bytes_max: compact::COMPONENT_BYTES_MAX,
    compile_cpu_s_max: compact::COMPILE_CPU_S_MAX,
    compile_bytes_max: compact::COMPILE_BYTES_MAX,
    artifact_bytes_max: compact::ARTIFACT_BYTES_MAX,
    functions_max: compact::FUNCTIONS_MAX,
    custom_section_bytes_max: compact::CUSTOM_SECTION_BYTES_MAX,
    memory_bytes_max: compact::MEMORY_BYTES_MAX,
    table_elements_max: compact::TABLE_ELEMENTS_MAX,
    stack_bytes_max: compact::STACK_BYTES_MAX,
    metering_fuel: MeteringFuel {
        base: compact::METERING_FUEL_BASE,
        per_interval: compact::METERING_FUEL_PER_INTERVAL,
        per_value: compact::METERING_FUEL_PER_VALUE,
        per_subject: compact::METERING_FUEL_PER_SUBJECT,
        per_setting: compact::METERING_FUEL_PER_SETTING,
    },
    deadline_ticks: compact::DEADLINE_TICKS,
    instances_max: compact::INSTANCES_MAX,
    core_instances_max: compact::CORE_INSTANCES_MAX,
    tables_max: compact::TABLES_MAX,
};

const LARGE: Bounds = Bounds {
    component_bytes_max: large::COMPONENT_BYTES_MAX,
    compile_cpu_s_max: large::COMPILE_CPU_S_MAX,
    compile_bytes_max: large::COMPILE_BYTES_MAX,
    artifact_bytes_max: large::ARTIFACT_BYTES_MAX,
    functions_max: large::FUNCTIONS_MAX,
    custom_section_bytes_max: large::CUSTOM_SECTION_BYTES_MAX,
    memory_bytes_max: large::MEMORY_BYTES_MAX,
    table_elements_max: large::TABLE_ELEMENTS_MAX,
    stack_bytes_max: large::STACK_BYTES_MAX,
    metering_fuel: MeteringFuel {
        base: large::METERING_FUEL_BASE,
        per_interval: large::METERING_FUEL_PER_INTERVAL,
        per_value: large::METERING_FUEL_PER_VALUE,
        per_subject: large::METERING_FUEL_PER_SUBJECT,
        per_setting: large::METERING_FUEL_PER_SETTING,
    },
    deadline_ticks: large::DEADLINE_TICKS,
    instances_max: large::INSTANCES_MAX,
    core_instances_max: large::CORE_INSTANCES_MAX,
    tables_max: large::TABLES_MAX,
};

impl Profile {
    /// Every profile.
    pub const ALL: [Profile; 2] = [Profile::Compact, Profile::Large];

    /// Returns its name in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Profile::Compact => "compact",
            Profile::Large => "large",
        }
    }

    /// The bounds of profile large, as a base for others.
    pub(super) const fn large() -> Bounds {
        LARGE
    }

    /// Returns its bounds.
    pub fn bounds(self) -> &'static Bounds {
        match self {
            Profile::Compact => &COMPACT,
            Profile::Large => &LARGE,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Profile {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        Self::ALL.into_iter().find(|profile| profile.as_str() == text).ok_or_else(|| {
            IdError::Word {
                what: "a profile",
                text: text.chars().take(80).collect(),
                known: Self::ALL.map(Self::as_str).join(", "),
            }
        })
    }
}
