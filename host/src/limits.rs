//! Every bound of the program, in one place, each with its unit and its reason.

/// Bounds of billing.
pub mod bill {
    /// How long a boot counts as `initializing` where the activation does not say, in nanoseconds.
    pub const INITIALIZING_MAX_NS: u64 = 600_000_000_000;
    /// Instances whose use is read before policies are asked about it.
    pub const MEASURED_INSTANCES: usize = 4_096;
    /// How long after its end a period can be closed, in nanoseconds: what happened in it is known
    /// then.
    pub const GRACE_NS: i64 = 60_000_000_000;
    /// How long an operation that is under way holds a close back, in nanoseconds.
    pub const UNSETTLED_NS: i64 = 900_000_000_000;
}

/// Bounds of policies.
pub mod policy {
    /// Largest component in bytes. Compile time grows with it and can't be interrupted: 1 MiB stays
    /// near two seconds.
    pub const COMPONENT_BYTES_MAX: usize = 1 << 20;
    /// Processor time for compiling one component, in seconds. 1 MiB takes some two.
    pub const COMPILE_CPU_S_MAX: u64 = 20;
    /// Memory for compiling one component in bytes.
    pub const COMPILE_BYTES_MAX: u64 = 768 << 20;
    /// Most functions in a component, before anything is compiled.
    pub const FUNCTIONS_MAX: u32 = 3_000;
    /// Largest custom section in bytes.
    pub const CUSTOM_SECTION_BYTES_MAX: usize = 64 << 10;
    /// Linear memory of one call in bytes.
    pub const MEMORY_BYTES_MAX: usize = 16 << 20;
    /// Table elements of one call.
    pub const TABLE_ELEMENTS_MAX: usize = 1_000;
    /// Stack of one call in bytes.
    pub const STACK_BYTES_MAX: usize = 256 << 10;
    /// Fuel of an accounting call before its items.
    pub const FUEL_BASE: u64 = 50_000;
    /// Fuel for each item of an accounting call.
    pub const FUEL_PER_ITEM: u64 = 2_000;
    /// Fuel of a metering call before all that it is about.
    pub const METERING_FUEL_BASE: u64 = 1_000_000;
    /// Fuel for each interval of a metering call.
    pub const METERING_FUEL_PER_INTERVAL: u64 = 4_000;
    /// Fuel for each value of a dimension or a count.
    pub const METERING_FUEL_PER_VALUE: u64 = 400;
    /// Fuel for each instance.
    pub const METERING_FUEL_PER_SUBJECT: u64 = 20_000;
    /// Fuel for each option and each tag: they are texts.
    pub const METERING_FUEL_PER_SETTING: u64 = 20_000;
    /// Most items in one batched call.
    pub const BATCH_ITEMS_MAX: usize = 10_000;
    /// Items the host puts into one call: argument and answer then stay in the processor's cache.
    pub const BATCH_ITEMS: usize = 1_000;
    /// Wall clock of one call in ticks. A backstop only: its verdict is "try again", never a price.
    /// Fuel stops a call within milliseconds, so this is passed only where the host itself stands
    /// still.
    pub const DEADLINE_TICKS: u64 = 100;
    /// Length of a tick in milliseconds. A shorter one would wake an idle host for nothing.
    pub const TICK_MS: u64 = 10;
    /// Bytes that the answer of an accounting call may hold, before its items.
    pub const ANSWER_BYTES_BASE: usize = 64 << 10;
    /// Bytes for each item on top.
    pub const ANSWER_BYTES_PER_ITEM: usize = 256;
    /// Bytes that the answer of a metering call may hold before its intervals: descriptions and
    /// lines of the policy's own.
    pub const METERING_ANSWER_BYTES_BASE: usize = 8 << 20;
    /// Bytes for each interval on top.
    pub const METERING_ANSWER_BYTES_PER_INTERVAL: usize = 64;
    /// Intervals that the host puts into one metering call, unless one instance has more: the
    /// call's memory has to hold their columns.
    pub const METERING_INTERVALS: usize = 50_000;
    /// Meters of a policy: bits of a mask.
    pub const METERS_MAX: usize = 64;
    /// Options of a policy.
    pub const OPTIONS_MAX: usize = 64;
    /// Words to choose from in one option.
    pub const CHOICES_MAX: usize = 32;
    /// Thousandths of a quantity that a policy may declare to bill at most in lines of its own.
    pub const BILLED_RATIO_MAX: u32 = 1_000_000;
    /// Longest minimum and longest grain of a stretch in nanoseconds: 366 days.
    pub const TERMS_NS_MAX: u64 = 366 * 86_400 * 1_000_000_000;
    /// Lines of a policy's own in one answer.
    pub const OWN_LINES_MAX: usize = 10_000;
    /// Bytes of a rule, a meter, a unit or a price's id.
    pub const WORD_BYTES_MAX: usize = 128;
    /// Bytes of a line's, a meter's or an option's description.
    pub const DESCRIPTION_BYTES_MAX: usize = 512;
    /// Bytes of a price book.
    pub const BOOK_BYTES_MAX: usize = 1 << 20;
    /// Prices of a book. Each is compared with each.
    pub const PRICES_MAX: usize = 1_000;
    /// Tiers of a price.
    pub const TIERS_MAX: usize = 100;
    /// Adjustments of a book.
    pub const ADJUSTMENTS_MAX: usize = 100;
    /// Bytes of an option's value.
    pub const OPTION_BYTES_MAX: usize = 4_096;
    /// Calls under way at once.
    pub const INSTANCES_MAX: u32 = 64;
    /// Core instances inside a component: the module itself, and what adapters put around it.
    pub const CORE_INSTANCES_MAX: u32 = 4;
    /// Tables inside a component.
    pub const TABLES_MAX: u32 = 4;
    /// Frames of a trap's backtrace that its author gets to see.
    pub const BACKTRACE_FRAMES_MAX: usize = 8;
    /// Bytes kept of a text that a policy explains itself with.
    pub const REASON_BYTES_MAX: usize = 1_024;
    /// Bytes of a slot that stay resident between calls, where the kernel tells which of them were
    /// used (Linux 6.7 and later): a metering call uses about as much.
    pub const KEEP_RESIDENT_BYTES: usize = 4 << 20;
    /// The same where it does not: as much is zeroed after each call.
    pub const KEEP_RESIDENT_BLINDLY_BYTES: usize = 512 << 10;
    /// Faults in a row after which a policy is no longer asked for a tenant.
    pub const FAULTS_IN_A_ROW_MAX: u32 = 2;

    /// The profile `large`, for interpreted languages, where it differs: such a component brings
    /// its interpreter along. It measures and doesn't account, so that no transition of anybody
    /// ever waits for it.
    pub mod large {
        /// Largest component in bytes; those of Python and JavaScript have 12 to 19 MB, and take
        /// the compiler 10 to 60 seconds, once.
        pub const COMPONENT_BYTES_MAX: usize = 32 << 20;
        /// Processor time for compiling one component, in seconds.
        pub const COMPILE_CPU_S_MAX: u64 = 600;
        /// Memory for compiling one component in bytes.
        pub const COMPILE_BYTES_MAX: u64 = 8 << 30;
        /// Most functions in a component.
        pub const FUNCTIONS_MAX: u32 = 100_000;
        /// Largest custom section in bytes.
        pub const CUSTOM_SECTION_BYTES_MAX: usize = 4 << 20;
        /// Linear memory of one call in bytes.
        pub const MEMORY_BYTES_MAX: usize = 256 << 20;
        /// Table elements of one call.
        pub const TABLE_ELEMENTS_MAX: usize = 100_000;
        /// Stack of one call in bytes.
        pub const STACK_BYTES_MAX: usize = 1 << 20;
        /// Fuel of a metering call before all that it is about: some seconds.
        pub const METERING_FUEL_BASE: u64 = 2_000_000_000;
        /// Fuel for each interval of a metering call.
        pub const METERING_FUEL_PER_INTERVAL: u64 = 1_000_000;
        /// Fuel for each value of a dimension or a count.
        pub const METERING_FUEL_PER_VALUE: u64 = 100_000;
        /// Fuel for each instance.
        pub const METERING_FUEL_PER_SUBJECT: u64 = 2_000_000;
        /// Fuel for each option and each tag.
        pub const METERING_FUEL_PER_SETTING: u64 = 2_000_000;
        /// Wall clock of one call in ticks: five minutes.
        pub const DEADLINE_TICKS: u64 = 30_000;
        /// Calls under way at once.
        pub const INSTANCES_MAX: u32 = 2;
        /// Core instances inside a component: interpreters come as several modules.
        pub const CORE_INSTANCES_MAX: u32 = 128;
        /// Tables inside a component.
        pub const TABLES_MAX: u32 = 32;
    }
}

/// The biller, which is the host's own: its bounds guard against a defect, and not against a
/// tenant.
pub mod biller {
    /// Linear memory of one bill in bytes: all that WebAssembly addresses.
    pub const MEMORY_BYTES_MAX: usize = 4 << 30;
    /// Fuel before all that a bill is about.
    pub const FUEL_BASE: u64 = 10_000_000_000;
    /// Fuel for each interval and each meter; an interval may give a line for each price and tier.
    pub const FUEL_PER_INTERVAL_AND_METER: u64 = 100_000;
    /// Fuel for each byte of the header, of ids and of own lines: what a period before handed on,
    /// too.
    pub const FUEL_PER_BYTE: u64 = 10_000;
    /// Bytes that one answer may hold: what is handed on for 100,000 instances, or a batch of
    /// lines.
    pub const ANSWER_BYTES_MAX: usize = 1 << 30;
    /// Wall clock of one bill in ticks: an hour, for the interpreter.
    pub const DEADLINE_TICKS: u64 = 360_000;
    /// Intervals in one call.
    pub const BATCH_INTERVALS: usize = 100_000;
    /// Lines in one call.
    pub const BATCH_LINES: u32 = 100_000;
}

/// Queues: each answers when it is full.
pub mod queue {
    /// Commands that wait for one instance.
    pub const INSTANCE_COMMANDS_MAX: usize = 8;
    /// Entries that wait for the journal.
    pub const JOURNAL_ENTRIES_MAX: usize = 4_096;
    /// Entries in one commit of the journal.
    pub const JOURNAL_BATCH_MAX: usize = 512;
}

/// Instances.
pub mod instance {
    /// Instances known to a host, deleted ones not counted.
    pub const KNOWN_MAX: usize = 100_000;
    /// Virtual processors.
    pub const VCPUS_MAX: u32 = 64;
    /// Least guest memory in bytes that any supported guest boots with.
    pub const MEMORY_BYTES_MIN: u64 = 4 << 20;
    /// Most guest memory in bytes.
    pub const MEMORY_BYTES_MAX: u64 = 1 << 40;
    /// Extra disks.
    pub const DISKS_MAX: usize = 16;
    /// Kernel command line in bytes; Linux on x86 takes 2,048.
    pub const CMDLINE_BYTES_MAX: usize = 2_047;
    /// Tags.
    pub const TAGS_MAX: usize = 64;
    /// A tag's name or value in bytes.
    pub const TAG_BYTES_MAX: usize = 256;
    /// Console log kept of one instance in bytes; the older half is dropped when it is full.
    pub const CONSOLE_BYTES_MAX: u64 = 16 << 20;
    /// Log kept of one instance's virtual machine monitor in bytes; the older half is dropped when
    /// it is full.
    pub const VMM_LOG_BYTES_MAX: u64 = 4 << 20;
    /// Longest line that is searched for a boot marker, in bytes.
    pub const MARKER_LINE_BYTES_MAX: usize = 64 << 10;
    /// Lines about the end of the guest's program that are noted at once in one incarnation. The
    /// guest may print any number; of later ones the last is noted, in the interval below and at
    /// the end.
    pub const EXIT_MARKERS_AT_ONCE: usize = 16;
    /// Least time between two later ones that are noted, in milliseconds.
    pub const EXIT_MARKER_INTERVAL_MS: u64 = 60_000;
    /// How long a stop waits for the guest before it ends it by force, in milliseconds.
    pub const STOP_GRACE_MS: u64 = 5_000;
    /// How long a virtual machine monitor may take to answer after its launch, in milliseconds.
    pub const LAUNCH_MS_MAX: u64 = 30_000;
    /// How long one control call may take, in milliseconds.
    pub const CONTROL_MS_MAX: u64 = 10_000;
    /// How long the supervisor's word on a change of the vCPUs is waited for after the
    /// acknowledgement, in milliseconds.
    pub const VCPU_EVENT_MS_MAX: u64 = 1_000;
    /// How long writing or loading a snapshot may stand still, in milliseconds. While it moves it
    /// may take any time.
    pub const SNAPSHOT_STALL_MS_MAX: u64 = 600_000;
    /// Longest path of a unix socket in bytes.
    pub const SOCKET_PATH_BYTES_MAX: usize = 107;
}

/// Snapshots that are kept.
pub mod snapshot {
    /// Of one instance.
    pub const KEPT_MAX: usize = 256;
    /// Shortest time between two snapshots of a schedule, in milliseconds.
    pub const INTERVAL_MS_MIN: u64 = 60_000;
    /// Longest time between two snapshots of a schedule, in milliseconds: a year.
    pub const INTERVAL_MS_MAX: u64 = 366 * 86_400_000;
    /// Longest beginning of the names of scheduled snapshots, in characters. The date takes the
    /// rest.
    pub const PREFIX_CHARS_MAX: usize = 44;
}

/// Forks.
pub mod fork {
    /// Forks that wait for one instance.
    pub const WAITING_MAX: usize = 128;
}

/// How an instance that ended is started again.
pub mod restart {
    /// How long the first attempt waits if the client does not say, in milliseconds.
    pub const BACKOFF_MS: u64 = 1_000;
    /// Least such wait, in milliseconds: each session writes four facts, and a guest may end at
    /// once.
    pub const BACKOFF_MS_MIN: u64 = 50;
    /// How long any attempt waits at most, in milliseconds, unless the first one waits longer.
    pub const BACKOFF_MS_MAX: u64 = 300_000;
    /// Longest wait of a first attempt that may be asked for, in milliseconds: a day.
    pub const FIRST_BACKOFF_MS_MAX: u64 = 86_400_000;
    /// Least time that a guest has to run to be stable, in milliseconds: the waits of one that ends
    /// sooner grow.
    pub const STABLE_AFTER_MS_MIN: u64 = 10_000;
    /// How long a guest has to run to be stable, if the client does not say, in milliseconds.
    pub const STABLE_AFTER_MS: u64 = 60_000;
    /// Longest such time that may be asked for, in milliseconds: a day.
    pub const STABLE_AFTER_MS_MAX: u64 = 86_400_000;
}

/// Health checks.
pub mod health {
    /// From an answer to the next question if the client does not say, in milliseconds.
    pub const INTERVAL_MS: u64 = 10_000;
    /// Least of that, and least time for an answer, in milliseconds.
    pub const INTERVAL_MS_MIN: u64 = 100;
    /// Longest of that, in milliseconds: a day.
    pub const INTERVAL_MS_MAX: u64 = 86_400_000;
    /// How long an answer may take if the client does not say, in milliseconds.
    pub const TIMEOUT_MS: u64 = 2_000;
    /// Longest time for an answer that may be asked for, in milliseconds.
    pub const TIMEOUT_MS_MAX: u64 = 60_000;
    /// Failures in a row that make unhealthy if the client does not say.
    pub const FAILURES_MAX: u32 = 3;
    /// What is typed on a console, what is expected there, and a path: each in bytes. A FIFO takes
    /// 4,096 in one piece.
    pub const TEXT_BYTES_MAX: usize = 1_024;
}

/// Standby of what has nothing to do.
pub mod idle {
    /// Least time without anything to do, in milliseconds. The kernel counts processor time in
    /// steps of 10 ms.
    pub const AFTER_MS_MIN: u64 = 1_000;
    /// Longest such time, in milliseconds: 30 days.
    pub const AFTER_MS_MAX: u64 = 30 * 86_400_000;
    /// Use of one processor that is little if the client does not say, in thousandths. An idle
    /// Linux guest under QEMU uses 10 to 20.
    pub const CPU_PERMILLE: u32 = 50;
    /// Most of that: all of one processor.
    pub const CPU_PERMILLE_MAX: u32 = 1_000;
    /// Attempts in a row that fail before auto-standby is given up, until something changes.
    pub const ATTEMPTS_MAX: u32 = 5;
    /// How long the second attempt waits, in milliseconds; each one after it waits four times as
    /// long.
    pub const RETRY_MS: u64 = 30_000;
}

/// What a tenant may have unless an operator says otherwise.
pub mod tenant {
    /// Tenants known to a host.
    pub const KNOWN_MAX: usize = 10_000;
    /// Instances that are not deleted: a tenth of what a host knows.
    pub const INSTANCES_MAX: u64 = 10_000;
    /// Virtual processors of all its instances.
    pub const VCPUS_MAX: u64 = 16_384;
    /// Memory of all its instances in bytes.
    pub const MEMORY_BYTES_MAX: u64 = 16 << 40;
    /// Policies that it has uploaded.
    pub const POLICIES_MAX: u64 = 100;
    /// Requests in a second, on average; twice as many may come at once.
    pub const REQUESTS_PER_S_MAX: u64 = 100;
    /// Fuel that its policies burn in a minute, on average: some seconds of one processor.
    /// Accounting of facts is counted and never refused.
    pub const FUEL_PER_MINUTE_MAX: u64 = 6_000_000_000;
}

/// Tokens.
pub mod token {
    /// Tokens of one tenant that are neither revoked nor expired.
    pub const KNOWN_MAX: usize = 1_000;
    /// A token's name in characters.
    pub const NAME_CHARS_MAX: usize = 63;
    /// How long a token lasts if nobody says, in seconds: 90 days.
    pub const LIFETIME_S_DEFAULT: u64 = 90 * 86_400;
    /// How long a token may last, in seconds: 366 days.
    pub const LIFETIME_S_MAX: u64 = 366 * 86_400;
    /// A signed token from elsewhere in bytes.
    pub const JWT_BYTES_MAX: usize = 4_096;
    /// How far ahead a signed token's `exp` may lie, in seconds: it can't be revoked, so it must
    /// end soon.
    pub const JWT_LIFETIME_S_MAX: u64 = 86_400;
    /// How far the clock of whoever signed a token may differ from ours, in seconds.
    pub const JWT_LEEWAY_S: u64 = 30;
    /// Least bytes of a shared secret for HS256 (RFC 7518, section 3.2).
    pub const HS256_SECRET_BYTES_MIN: usize = 32;
    /// A signed token's subject in bytes.
    pub const JWT_SUBJECT_BYTES_MAX: usize = 128;
}

/// Images.
pub mod image {
    /// A description in bytes.
    pub const DESCRIPTION_BYTES_MAX: usize = 1_024;
    /// Least guest memory in bytes of an image that doesn't say: what a small Linux boots with.
    pub const MEMORY_BYTES_MIN_DEFAULT: u64 = 128 << 20;
    /// Least guest memory in bytes of `debian-busybox`. It boots with 72 MiB and fails with 64 MiB.
    pub const DEBIAN_BUSYBOX_MEMORY_BYTES_MIN: u64 = 96 << 20;
}

/// The API.
pub mod api {
    /// Body of a request in bytes, except a policy's.
    pub const BODY_BYTES_MAX: usize = 1 << 20;
    /// Longest wait of `wait` in seconds.
    pub const WAIT_S_MAX: u64 = 3_600;
    /// Facts on one page of the journal.
    pub const JOURNAL_PAGE_MAX: usize = 1_000;
    /// Instances whose time is counted twice in the report of a policy that is tried.
    pub const SHADOW_INSTANCES_MAX: usize = 1_000;
    /// Facts about a policy that are shown with it.
    pub const POLICY_HISTORY_MAX: usize = 100;
    /// Longest wait of `wait` in seconds if the client does not say.
    pub const WAIT_S_DEFAULT: u64 = 60;
    /// Lines of a log that are answered if the client does not say.
    pub const LOG_LINES_DEFAULT: usize = 100;
    /// Lines of a log that may be asked for.
    pub const LOG_LINES_MAX: usize = 1_000_000;
    /// Longest line of a log that is answered in one piece, in bytes.
    pub const LOG_LINE_BYTES_MAX: usize = 64 << 10;
    /// Lines that wait for a client that reads slowly.
    pub const LOG_QUEUE_LINES_MAX: usize = 256;
    /// Connections that are open at a time, of all peers together. Fewer where this process may
    /// open few files.
    pub const CONNECTIONS_MAX: usize = 4_096;
    /// Connections of one address that are open at a time.
    pub const CONNECTIONS_PER_PEER_MAX: usize = 1_024;
    /// Time for the head of a request from the opening of the connection or the end of the answer
    /// before, in milliseconds: an idle connection ends after it, too.
    pub const HEADER_READ_MS: u64 = 30_000;
    /// Time for the body of a request, in milliseconds. 32 MiB pass in it at 4.5 Mbit/s.
    pub const BODY_READ_MS: u64 = 60_000;
    /// Time that a client may take nothing of an answer, in milliseconds.
    pub const WRITE_STALL_MS: u64 = 30_000;
    /// Requests of one tenant that are under way at a time, those that wait for a state included.
    pub const REQUESTS_AT_ONCE_MAX: usize = 256;
    /// Policies of one tenant that are examined at a time. Compiling takes a processor and can't be
    /// interrupted, so that others wait for one of each tenant at most.
    pub const UPLOADS_MAX: usize = 1;
    /// Logs of one tenant that are followed at a time.
    pub const FOLLOWERS_MAX: usize = 64;
    /// How long requests may take to end when the daemon stops, in milliseconds.
    pub const DRAIN_MS: u64 = 5_000;
}
