//! Every bound of the program, in one place, each with its unit and its reason.

/// Bounds of networks.
pub mod network {
    /// Longest time for which traffic is counted without a fact that says so, in nanoseconds.
    pub const TOLD_NS: u64 = 3_600_000_000_000;
    /// Time from a change of rules or periods back to the reading of the traffic before it, in
    /// nanoseconds.
    pub const LEAD_NS: u64 = 100_000_000;
    /// Time ahead of which changes are looked out for, in nanoseconds. What is to change sooner is
    /// read when that is asked for.
    pub const ANNOUNCED_NS: u64 = 1_500_000_000;
    /// Time between two looks for changes.
    pub const LOOK: std::time::Duration = std::time::Duration::from_secs(1);
    /// Longest time that the reading of all guests of a tenant is waited for.
    pub const READING: std::time::Duration = std::time::Duration::from_millis(500);
    /// Longest time for which the end of a tenant's period is kept in mind, in nanoseconds: the
    /// wall clock may be stepped.
    pub const PERIOD_KEPT_NS: u64 = 60_000_000_000;
    /// Limits of a guest's sending and receiving, in bytes a second: from 64 kbit to 100 Gbit.
    pub const RATES: std::ops::RangeInclusive<u64> = 8_000..=12_500_000_000;
    /// Most places of the list that a guest may send to. The packets of each new connection are
    /// compared with each.
    pub const ALLOWED_MAX: usize = 64;
    /// Bytes that a guest may send or receive at once, however low its limit is: some packets.
    pub const BURST_BYTES_MIN: u64 = 64 << 10;
}

/// Bounds of what a host gives to instances.
pub mod host {
    /// Ratios of what is given and what the host has, in thousandths.
    pub const RATIOS_PERMILLE: std::ops::RangeInclusive<u32> = 100..=1_000_000;
    /// Virtual processors for each processor, in thousandths, unless the operator sets another
    /// ratio: they wait for each other, and sandboxes mostly wait.
    pub const CPU_RATIO_PERMILLE: u32 = 16_000;
    /// Guest memory for the host's memory, in thousandths, unless the operator sets another ratio.
    pub const MEMORY_RATIO_PERMILLE: u32 = 1_000;
    /// Sizes of guests' disks for the disk's, in thousandths, unless the operator sets another
    /// ratio: what a guest has not written takes no space.
    pub const DISK_RATIO_PERMILLE: u32 = 4_000;
}

/// Bounds of billing.
pub mod bill {
    /// Longest time that a boot counts as `initializing` unless the activation sets another, in
    /// nanoseconds.
    pub const INITIALIZING_MAX_NS: u64 = 600_000_000_000;
    /// Instances whose usage is read before policies are asked about it.
    pub const MEASURED_INSTANCES: usize = 4_096;
    /// Time from the end of a period until it can be closed, in nanoseconds: by then its facts are
    /// known.
    pub const GRACE_NS: i64 = 60_000_000_000;
    /// Longest time that an operation under way delays a close, in nanoseconds.
    pub const UNSETTLED_NS: i64 = 900_000_000_000;
    /// Longest time that an operator can say the meter has left out, in nanoseconds: ten years.
    pub const MISSING_NS_MAX: u64 = 315_576_000_000_000_000;
}

/// Bounds of policies.
pub mod policy {
    /// Largest component in bytes. Compile time grows with it and can't be interrupted: 1 MiB takes
    /// about two seconds.
    pub const COMPONENT_BYTES_MAX: usize = 1 << 20;
    /// Processor time for compiling one component, in seconds. 1 MiB takes about two.
    pub const COMPILE_CPU_S_MAX: u64 = 20;
    /// Memory for compiling one component in bytes.
    pub const COMPILE_BYTES_MAX: u64 = 768 << 20;
    /// Descriptors of a process that compiles: its two pipes, and what it reads about processors.
    pub const COMPILE_DESCRIPTORS_MAX: u64 = 32;
    /// Niceness of a process that compiles: machines and their operations go first.
    pub const COMPILE_NICENESS: i32 = 10;
    /// Components that are compiled at once. A tenant compiles one at a time.
    pub const COMPILATIONS_MAX: u32 = 8;
    /// Largest artifact of a compiled component in bytes.
    pub const ARTIFACT_BYTES_MAX: u64 = 64 << 20;
    /// Most functions in a component; checked before it is compiled.
    pub const FUNCTIONS_MAX: u32 = 3_000;
    /// Largest custom section in bytes.
    pub const CUSTOM_SECTION_BYTES_MAX: usize = 64 << 10;
    /// Linear memory of one call in bytes.
    pub const MEMORY_BYTES_MAX: usize = 16 << 20;
    /// Table elements of one call.
    pub const TABLE_ELEMENTS_MAX: usize = 1_000;
    /// Stack of one call in bytes.
    pub const STACK_BYTES_MAX: usize = 256 << 10;
    /// Base fuel of an accounting call.
    pub const FUEL_BASE: u64 = 50_000;
    /// Fuel for each item of an accounting call.
    pub const FUEL_PER_ITEM: u64 = 2_000;
    /// Base fuel of a metering call.
    pub const METERING_FUEL_BASE: u64 = 1_000_000;
    /// Fuel for each interval of a metering call.
    pub const METERING_FUEL_PER_INTERVAL: u64 = 4_000;
    /// Fuel for each value of a dimension or a count in a metering call.
    pub const METERING_FUEL_PER_VALUE: u64 = 400;
    /// Fuel for each instance in a metering call.
    pub const METERING_FUEL_PER_SUBJECT: u64 = 20_000;
    /// Fuel for each option and each tag, which are texts, in a metering call.
    pub const METERING_FUEL_PER_SETTING: u64 = 20_000;
    /// Most items in one batched call.
    pub const BATCH_ITEMS_MAX: usize = 10_000;
    /// Items the host puts into one call: argument and answer then stay in the processor's cache.
    pub const BATCH_ITEMS: usize = 1_000;
    /// Wall-clock time of one call, in ticks. A backstop only: past it a call is tried again, never
    /// priced. Fuel stops a call within milliseconds, so this is passed only if the host stalls.
    pub const DEADLINE_TICKS: u64 = 100;
    /// Length of a tick in milliseconds. A shorter one would wake an idle host for nothing.
    pub const TICK_MS: u64 = 10;
    /// Base size of the largest answer of an accounting call, in bytes.
    pub const ANSWER_BYTES_BASE: usize = 64 << 10;
    /// Bytes that each item adds to the largest answer of an accounting call.
    pub const ANSWER_BYTES_PER_ITEM: usize = 256;
    /// Base size of the largest answer of a metering call, in bytes: descriptions and lines of the
    /// policy's own.
    pub const METERING_ANSWER_BYTES_BASE: usize = 8 << 20;
    /// Bytes that each interval adds to the largest answer of a metering call.
    pub const METERING_ANSWER_BYTES_PER_INTERVAL: usize = 64;
    /// Intervals that the host puts into one metering call, unless one instance has more: the
    /// call's memory has to hold their columns.
    pub const METERING_INTERVALS: usize = 50_000;
    /// Most meters of a policy: each is a bit of a mask.
    pub const METERS_MAX: usize = 64;
    /// Most options of a policy.
    pub const OPTIONS_MAX: usize = 64;
    /// Most words to choose from in one option.
    pub const CHOICES_MAX: usize = 32;
    /// Largest ratio of a quantity that a policy may declare to bill in lines of its own, in
    /// thousandths.
    pub const BILLED_RATIO_MAX: u32 = 1_000_000;
    /// Longest minimum and longest grain of a stretch in nanoseconds: 366 days.
    pub const TERMS_NS_MAX: u64 = 366 * 86_400 * 1_000_000_000;
    /// Most lines of a policy's own in one answer.
    pub const OWN_LINES_MAX: usize = 10_000;
    /// Longest rule, meter, unit or price id, in bytes.
    pub const WORD_BYTES_MAX: usize = 128;
    /// Longest description of a line, a meter or an option, in bytes.
    pub const DESCRIPTION_BYTES_MAX: usize = 512;
    /// Largest price book in bytes.
    pub const BOOK_BYTES_MAX: usize = 1 << 20;
    /// Most prices of a book. Each is compared with each.
    pub const PRICES_MAX: usize = 1_000;
    /// Most tiers of a price.
    pub const TIERS_MAX: usize = 100;
    /// Most adjustments of a book.
    pub const ADJUSTMENTS_MAX: usize = 100;
    /// Longest value of an option, in bytes.
    pub const OPTION_BYTES_MAX: usize = 4_096;
    /// Most calls under way at once.
    pub const INSTANCES_MAX: u32 = 64;
    /// Most core instances inside a component: the module itself and its adapters.
    pub const CORE_INSTANCES_MAX: u32 = 4;
    /// Most tables inside a component.
    pub const TABLES_MAX: u32 = 4;
    /// Most frames of a trap's backtrace that are shown to the policy's author.
    pub const BACKTRACE_FRAMES_MAX: usize = 8;
    /// Bytes kept of a reason that a policy gives.
    pub const REASON_BYTES_MAX: usize = 1_024;
    /// Bytes of a slot that stay resident between calls if the kernel reports which pages were used
    /// (Linux 6.7 and later). A metering call uses about as much.
    pub const KEEP_RESIDENT_BYTES: usize = 4 << 20;
    /// Bytes of a slot that stay resident between calls on other kernels: all of them are zeroed
    /// after each call.
    pub const KEEP_RESIDENT_BLINDLY_BYTES: usize = 512 << 10;
    /// Faults in a row after which a tenant's policy is quarantined.
    pub const FAULTS_IN_A_ROW_MAX: u32 = 2;

    /// Bounds of the profile `large` that differ, for interpreted languages, whose components hold
    /// their interpreter. Such a policy measures and doesn't account, so no transition waits for
    /// it.
    pub mod large {
        /// Largest component in bytes. Components of Python and JavaScript have 12 to 19 MB and are
        /// compiled once, in 10 to 60 seconds.
        pub const COMPONENT_BYTES_MAX: usize = 32 << 20;
        /// Processor time for compiling one component, in seconds.
        pub const COMPILE_CPU_S_MAX: u64 = 600;
        /// Memory for compiling one component in bytes.
        pub const COMPILE_BYTES_MAX: u64 = 8 << 30;
        /// Components that are compiled at once. A tenant compiles one at a time.
        pub const COMPILATIONS_MAX: u32 = 2;
        /// Largest artifact of a compiled component in bytes.
        pub const ARTIFACT_BYTES_MAX: u64 = 512 << 20;
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
        /// Base fuel of a metering call: some seconds.
        pub const METERING_FUEL_BASE: u64 = 2_000_000_000;
        /// Fuel for each interval of a metering call.
        pub const METERING_FUEL_PER_INTERVAL: u64 = 1_000_000;
        /// Fuel for each value of a dimension or a count in a metering call.
        pub const METERING_FUEL_PER_VALUE: u64 = 100_000;
        /// Fuel for each instance in a metering call.
        pub const METERING_FUEL_PER_SUBJECT: u64 = 2_000_000;
        /// Fuel for each option and each tag in a metering call.
        pub const METERING_FUEL_PER_SETTING: u64 = 2_000_000;
        /// Wall-clock time of one call, in ticks: five minutes.
        pub const DEADLINE_TICKS: u64 = 30_000;
        /// Most calls under way at once.
        pub const INSTANCES_MAX: u32 = 2;
        /// Most core instances inside a component: interpreters come as several modules.
        pub const CORE_INSTANCES_MAX: u32 = 128;
        /// Most tables inside a component.
        pub const TABLES_MAX: u32 = 32;
    }
}

/// Bounds of the biller, which is part of the program: they guard against a defect, not against a
/// tenant.
pub mod biller {
    /// Linear memory of one bill in bytes: the whole 32-bit address space.
    pub const MEMORY_BYTES_MAX: usize = 4 << 30;
    /// Base fuel of a bill.
    pub const FUEL_BASE: u64 = 10_000_000_000;
    /// Fuel for each interval and each meter; an interval may give a line for each price and tier.
    pub const FUEL_PER_INTERVAL_AND_METER: u64 = 100_000;
    /// Fuel for each byte of the header, of ids and of own lines, including those carried over from
    /// the period before.
    pub const FUEL_PER_BYTE: u64 = 10_000;
    /// Largest answer in bytes: the carry-over of 100,000 instances, or a batch of lines.
    pub const ANSWER_BYTES_MAX: usize = 1 << 30;
    /// Wall-clock time of one bill, in ticks: an hour, which the interpreter needs.
    pub const DEADLINE_TICKS: u64 = 360_000;
    /// Most intervals in one call.
    pub const BATCH_INTERVALS: usize = 100_000;
    /// Most lines in one call.
    pub const BATCH_LINES: u32 = 100_000;
}

/// Bounds of the disk that the data folder is on.
pub mod disk {
    /// Part of the disk that is kept free for the journal, as a divisor: a tenth.
    pub const KEPT_DIVISOR: u64 = 10;
    /// Most that is kept free for the journal, in bytes.
    pub const KEPT_BYTES_MAX: u64 = 4 << 30;
    /// Part of the disk that the journal's reserve takes, as a divisor: a fiftieth.
    pub const RESERVE_DIVISOR: u64 = 50;
    /// Least size of the reserve, in bytes: some dozens of facts.
    pub const RESERVE_BYTES_MIN: u64 = 1 << 20;
    /// Largest size of the reserve, in bytes: some ten thousands of facts.
    pub const RESERVE_BYTES_MAX: u64 = 64 << 20;
    /// Pieces in which the reserve is given back: guests may take what the journal has not used.
    pub const RESERVE_PIECES: u64 = 16;
    /// Free bytes without which the journal can't be opened: its log and the log's index.
    pub const OPENING_BYTES: u64 = 256 << 10;
}

/// Bounds of signed heads.
pub mod head {
    /// Time after which the end of the journal is signed if there are new facts, in seconds.
    pub const INTERVAL_S: u64 = 3_600;
    /// Least time between two looks for closes, in milliseconds.
    pub const PAUSE_MS: u64 = 1_000;
    /// Most signed heads in one answer.
    pub const LISTED_MAX: usize = 1_000;
    /// Longest time for one try to publish a head, in milliseconds.
    pub const PUBLISH_MS_MAX: u64 = 15_000;
    /// Time before the second try, in milliseconds; it doubles with each further one.
    pub const RETRY_MS_MIN: u64 = 1_000;
    /// Longest time between two tries, in milliseconds.
    pub const RETRY_MS_MAX: u64 = 300_000;
}

/// Bounds of queues.
pub mod queue {
    /// Most commands that wait for one instance; further ones are refused.
    pub const INSTANCE_COMMANDS_MAX: usize = 8;
    /// Most entries that wait for the journal.
    pub const JOURNAL_ENTRIES_MAX: usize = 4_096;
    /// Most entries in one commit of the journal.
    pub const JOURNAL_BATCH_MAX: usize = 512;
}

/// Bounds of instances.
pub mod instance {
    /// Most instances of a host that are not deleted.
    pub const KNOWN_MAX: usize = 100_000;
    /// Most virtual processors of one instance.
    pub const VCPUS_MAX: u32 = 64;
    /// Least guest memory in bytes that any supported guest boots with.
    pub const MEMORY_BYTES_MIN: u64 = 4 << 20;
    /// Most guest memory in bytes.
    pub const MEMORY_BYTES_MAX: u64 = 1 << 40;
    /// Most disks of one instance.
    pub const DISKS_MAX: usize = 16;
    /// Default size of the disk above an image's file system, in bytes.
    pub const OVERLAY_BYTES: u64 = 1 << 30;
    /// The smallest one: enough for a file system with a journal.
    pub const OVERLAY_BYTES_MIN: u64 = 16 << 20;
    /// The largest one.
    pub const OVERLAY_BYTES_MAX: u64 = 4 << 40;
    /// Longest kernel command line in bytes; Linux on x86 takes 2,048 with the final zero.
    pub const CMDLINE_BYTES_MAX: usize = 2_047;
    /// Most tags of one instance.
    pub const TAGS_MAX: usize = 64;
    /// Longest name or value of a tag, in bytes.
    pub const TAG_BYTES_MAX: usize = 256;
    /// Largest console log of one instance, in bytes; the older half is dropped when it is full.
    pub const CONSOLE_BYTES_MAX: u64 = 16 << 20;
    /// Largest log of one instance's virtual machine monitor, in bytes; the older half is dropped
    /// when it is full.
    pub const VMM_LOG_BYTES_MAX: u64 = 4 << 20;
    /// Longest line that is searched for a boot marker, in bytes.
    pub const MARKER_LINE_BYTES_MAX: usize = 64 << 10;
    /// Exit markers of one launch that are recorded as they come. A guest may print any
    /// number; of later ones only the last is recorded, at [`EXIT_MARKER_INTERVAL_MS`] and at the
    /// end.
    pub const EXIT_MARKERS_AT_ONCE: usize = 16;
    /// Least time between two records of later exit markers, in milliseconds.
    pub const EXIT_MARKER_INTERVAL_MS: u64 = 60_000;
    /// Time that a stop gives the guest before it ends it by force, in milliseconds.
    pub const STOP_GRACE_MS: u64 = 5_000;
    /// Longest time that a virtual machine monitor may take to answer after its launch, in
    /// milliseconds.
    pub const LAUNCH_MS_MAX: u64 = 30_000;
    /// Longest time of one control call, in milliseconds.
    pub const CONTROL_MS_MAX: u64 = 10_000;
    /// Longest wait for the supervisor's record of a change of the vCPUs after its acknowledgement,
    /// in milliseconds.
    pub const VCPU_EVENT_MS_MAX: u64 = 1_000;
    /// Longest time that writing or loading a snapshot may make no progress, in milliseconds. While
    /// it makes progress it may take any time.
    pub const SNAPSHOT_STALL_MS_MAX: u64 = 600_000;
    /// Longest path of a unix socket in bytes.
    pub const SOCKET_PATH_BYTES_MAX: usize = 107;
}

/// The way into a guest.
pub mod guest {
    /// Time that a standby waits for the agent's good-bye, in milliseconds.
    pub const GOODBYE_MS_MAX: u64 = 250;
    /// Time that a pause waits for the agent to hold the guest's processes, in milliseconds.
    pub const HOLD_MS_MAX: u64 = 250;
    /// Time that a connection without sessions stays, in milliseconds.
    pub const LINGER_MS: u64 = 5_000;
    /// Time for an agent to answer after its guest was resumed, in milliseconds.
    pub const WAKE_MS_MAX: u64 = 60_000;
    /// Time that a session waits for the agent by default, in milliseconds.
    pub const AGENT_WAIT_MS: u64 = 10_000;
    /// Longest such time that may be asked for, in seconds.
    pub const AGENT_WAIT_S_MAX: u64 = 600;
    /// Longest time of a command that may be asked for, in seconds: a week.
    pub const TIMEOUT_S_MAX: u64 = 7 * 86_400;
    /// Bytes of a command's words and variables.
    pub const COMMAND_BYTES_MAX: usize = 64 << 10;
    /// Words of a command, and variables.
    pub const WORDS_MAX: usize = 1_024;
    /// Bytes of a path in a guest.
    pub const PATH_BYTES_MAX: usize = 4_096;
    /// Bytes of what a session does that go on record.
    pub const ABOUT_BYTES_MAX: usize = 1_024;
    /// Sessions of one tenant at a time.
    pub const SESSIONS_MAX: usize = 64;
    /// Orders to the agent of one guest that wait to be sent, or for the guest to go on.
    pub const ASKS_MAX: usize = 64;
    /// Time for a client's first message, in milliseconds.
    pub const FIRST_WORD_MS_MAX: u64 = 10_000;
    /// Time for a client that has all of a copy to go by itself, in milliseconds.
    pub const FAREWELL_MS_MAX: u64 = 2_000;
    /// Longest message of a client, in bytes.
    pub const CLIENT_MESSAGE_BYTES_MAX: usize = 1 << 20;
}

/// Bounds of kept snapshots and their schedules.
pub mod snapshot {
    /// Most kept snapshots of one instance.
    pub const KEPT_MAX: usize = 256;
    /// Shortest time between two snapshots of a schedule, in milliseconds.
    pub const INTERVAL_MS_MIN: u64 = 60_000;
    /// Longest time between two snapshots of a schedule, in milliseconds: 366 days.
    pub const INTERVAL_MS_MAX: u64 = 366 * 86_400_000;
    /// Longest age at which a schedule's snapshots are dropped, in milliseconds: ten years.
    pub const AGE_MS_MAX: u64 = 3_660 * 86_400_000;
    /// Longest prefix of the names of scheduled snapshots, in characters. The date takes the rest.
    pub const PREFIX_CHARS_MAX: usize = 47;
}

/// Bounds of forks.
pub mod fork {
    /// Most forks that wait for one instance.
    pub const WAITING_MAX: usize = 128;
}

/// Bounds of restart policies.
pub mod restart {
    /// Default wait before the first attempt, in milliseconds.
    pub const BACKOFF_MS: u64 = 1_000;
    /// Shortest wait before any attempt, in milliseconds: each session writes four facts, and a
    /// guest may end at once.
    pub const BACKOFF_MS_MIN: u64 = 50;
    /// Longest wait before any attempt, in milliseconds, unless the first one waits longer.
    pub const BACKOFF_MS_MAX: u64 = 300_000;
    /// Longest wait before the first attempt that a client may set, in milliseconds: a day.
    pub const FIRST_BACKOFF_MS_MAX: u64 = 86_400_000;
    /// Shortest run time after which a guest counts as stable, in milliseconds; the waits of one
    /// that ends sooner grow.
    pub const STABLE_AFTER_MS_MIN: u64 = 10_000;
    /// Default run time after which a guest counts as stable, in milliseconds.
    pub const STABLE_AFTER_MS: u64 = 60_000;
    /// Longest run time to be stable that a client may set, in milliseconds: a day.
    pub const STABLE_AFTER_MS_MAX: u64 = 86_400_000;
}

/// Bounds of health checks.
pub mod health {
    /// Last output of a program in the guest that is told with its failure, in bytes.
    pub const SAID_BYTES_MAX: usize = 512;
    /// Default time from an answer to the next probe, in milliseconds.
    pub const INTERVAL_MS: u64 = 10_000;
    /// Shortest interval and shortest timeout, in milliseconds.
    pub const INTERVAL_MS_MIN: u64 = 100;
    /// Longest interval, in milliseconds: a day.
    pub const INTERVAL_MS_MAX: u64 = 86_400_000;
    /// Default timeout of a probe, in milliseconds.
    pub const TIMEOUT_MS: u64 = 2_000;
    /// Longest timeout of a probe that a client may set, in milliseconds.
    pub const TIMEOUT_MS_MAX: u64 = 60_000;
    /// Default number of failures in a row after which a workload is unhealthy.
    pub const FAILURES_MAX: u32 = 3;
    /// Longest text typed on a console, text expected there, and path, each in bytes. A FIFO takes
    /// 4,096 in one piece.
    pub const TEXT_BYTES_MAX: usize = 1_024;
}

/// Bounds of auto-standby.
pub mod idle {
    /// Shortest idle time before auto-standby, in milliseconds. The kernel counts processor time in
    /// steps of 10 ms.
    pub const AFTER_MS_MIN: u64 = 1_000;
    /// Default idle time before auto-standby, in milliseconds.
    pub const AFTER_MS: u64 = 300_000;
    /// Longest idle time before auto-standby, in milliseconds: 30 days.
    pub const AFTER_MS_MAX: u64 = 30 * 86_400_000;
    /// Default use of one processor up to which an instance is idle, in thousandths. An idle Linux
    /// guest under QEMU uses 10 to 20.
    pub const CPU_PERMILLE: u32 = 50;
    /// Largest such use that a client may set, in thousandths: all of one processor.
    pub const CPU_PERMILLE_MAX: u32 = 1_000;
    /// Failed attempts in a row after which auto-standby is given up until the instance changes.
    pub const ATTEMPTS_MAX: u32 = 5;
    /// Wait before the second attempt, in milliseconds; each further one waits four times as long.
    pub const RETRY_MS: u64 = 30_000;
}

/// Bounds of tenants. All but [`KNOWN_MAX`](tenant::KNOWN_MAX) are defaults that an operator may
/// change for a tenant.
pub mod tenant {
    /// Most tenants of a host.
    pub const KNOWN_MAX: usize = 10_000;
    /// Most instances that are not deleted: a tenth of a host's.
    pub const INSTANCES_MAX: u64 = 10_000;
    /// Most virtual processors of all instances together.
    pub const VCPUS_MAX: u64 = 16_384;
    /// Most memory of all instances together, in bytes.
    pub const MEMORY_BYTES_MAX: u64 = 16 << 40;
    /// Most uploaded policies.
    pub const POLICIES_MAX: u64 = 100;
    /// Most requests in a second, on average; twice as many may come at once.
    pub const REQUESTS_PER_S_MAX: u64 = 100;
    /// Most fuel of a tenant's policies in a minute, on average: some seconds of one processor.
    /// Accounting of facts is counted and never refused.
    pub const FUEL_PER_MINUTE_MAX: u64 = 6_000_000_000;
    /// Most bytes of disks, memories, snapshots and logs of all instances together, whatever the
    /// size of the disk. A console and a log count as large as they may become.
    pub const DISK_BYTES_MAX: u64 = 64 << 40;
    /// Part of the bytes that the host gives to disks which a tenant may have of them, unless an
    /// operator sets it: a half. The default tenant, that of a single user, may have all.
    pub const DISK_DIVISOR: u64 = 2;
    /// Most proposals of policies and price books that are neither accepted nor declined.
    pub const PROPOSALS_MAX: usize = 16;
    /// Most bytes of price books and components that the journal keeps for it.
    pub const STORED_BYTES_MAX: u64 = 4 << 30;
    /// Most launches of machines in a minute, on average; as many may come at once. Requests beyond
    /// are refused, and restarts wait. Two restarts of one instance are at least
    /// `restart::BACKOFF_MS_MIN` apart.
    pub const LAUNCHES_PER_MINUTE_MAX: u64 = 6_000;
    /// Most changes of phase in a minute, on average. What happens is always recorded; beyond,
    /// requests that would cause more are refused, and restarts wait.
    pub const EVENTS_PER_MINUTE_MAX: u64 = 600_000;
}

/// Bounds of tokens.
pub mod token {
    /// Most tokens of one tenant that are neither revoked nor expired.
    pub const KNOWN_MAX: usize = 1_000;
    /// Longest name of a token, in characters.
    pub const NAME_CHARS_MAX: usize = 63;
    /// Default lifetime of a token, in seconds: 90 days.
    pub const LIFETIME_S_DEFAULT: u64 = 90 * 86_400;
    /// Longest lifetime of a token, in seconds: 366 days.
    pub const LIFETIME_S_MAX: u64 = 366 * 86_400;
    /// Most tokens of the operator at a time: a new one beside those that clients still send.
    pub const OPERATOR_TOKENS_MAX: usize = 4;
    /// Time for which a token that has expired or was revoked is still listed, in seconds: 7 days.
    pub const ENDED_S: u64 = 7 * 86_400;
    /// Most tokens of one tenant that have ended and are still listed, the last ones.
    pub const ENDED_MAX: usize = 1_000;
    /// Longest signed token, in bytes.
    pub const JWT_BYTES_MAX: usize = 4_096;
    /// Longest time from now to a signed token's `exp`, in seconds: it can't be revoked, so it must
    /// expire soon.
    pub const JWT_LIFETIME_S_MAX: u64 = 86_400;
    /// Accepted difference between this host's clock and the issuer's, in seconds.
    pub const JWT_LEEWAY_S: u64 = 30;
    /// Shortest shared secret for HS256, in bytes (RFC 7518, section 3.2).
    pub const HS256_SECRET_BYTES_MIN: usize = 32;
    /// Most keys of signed tokens in a set.
    pub const JWT_KEYS_MAX: usize = 64;
    /// Longest id of such a key, in bytes.
    pub const JWT_KID_BYTES_MAX: usize = 128;
    /// Longest subject of a signed token, in bytes.
    pub const JWT_SUBJECT_BYTES_MAX: usize = 128;
}

/// Bounds of images.
pub mod image {
    /// Longest description, in bytes.
    pub const DESCRIPTION_BYTES_MAX: usize = 1_024;
    /// Default of an image's least guest memory, in bytes: enough to boot a small Linux.
    pub const MEMORY_BYTES_MIN_DEFAULT: u64 = 128 << 20;
    /// Least guest memory of `debian-busybox`, in bytes. It boots with 72 MiB and fails with 64
    /// MiB.
    pub const DEBIAN_BUSYBOX_MEMORY_BYTES_MIN: u64 = 96 << 20;
    /// A manifest, a configuration or an index of an OCI image, in bytes.
    pub const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
    /// Layers of an OCI image.
    pub const LAYERS_MAX: usize = 256;
    /// Manifests of an index.
    pub const MANIFESTS_MAX: usize = 1_024;
    /// Entries of all its layers.
    pub const FILES_MAX: u64 = 2_000_000;
    /// Content of all its layers in bytes, unpacked.
    pub const CONTENT_BYTES_MAX: u64 = 64 << 30;
    /// An extended attribute of a file in bytes.
    pub const XATTR_BYTES_MAX: usize = 32 << 10;
    /// All extended attributes of a file in bytes.
    pub const XATTRS_BYTES_MAX: usize = 64 << 10;
}

/// Bounds of the pushes of events.
pub mod delivery {
    /// Most facts that are looked at before what they say is sent.
    pub const FACTS_AT_ONCE: usize = 1_000;
    /// Most events in one request.
    pub const BATCH_MAX: usize = 1_000;
    /// Longest time of a request, in milliseconds.
    pub const REQUEST_MS_MAX: u64 = 15_000;
    /// Time before the second try of a request, in milliseconds; it doubles with each further one.
    pub const RETRY_MS_MIN: u64 = 1_000;
    /// Longest time between two tries that the daemon chooses, in milliseconds.
    pub const RETRY_MS_MAX: u64 = 300_000;
    /// Longest time between two tries that a receiver may ask for, in milliseconds.
    pub const RETRY_AFTER_MS_MAX: u64 = 3_600_000;
    /// Time after which the place of a receiver is written down, in milliseconds. What it took
    /// since comes again after a crash.
    pub const CURSOR_SAVE_MS: u64 = 1_000;
}

/// Bounds of a fleet.
pub mod fleet {
    /// Most facts in one batch of a host.
    pub const BATCH_FACTS: usize = 1_000;
    /// Texts of facts in one batch in bytes, unless a single fact is longer. A host that catches up
    /// keeps one batch in memory.
    pub const BATCH_BYTES: usize = 1 << 20;
    /// The same for a batch through an engine, whose messages have 1 MiB at most: quoted, texts
    /// take up to twice their length.
    pub const PUBLISHED_BYTES: usize = 384 << 10;
    /// Longest wait for the collector's answer to a batch that the engine has, in milliseconds. A
    /// host waits once, and then goes on until answers come again.
    pub const ANSWER_MS: u64 = 3_000;
    /// Time between two beats of a host to an engine while the collector is away, in milliseconds.
    pub const QUIET_BEAT_MS: u64 = 60_000;
    /// Longest time in which the collector takes a batch, in milliseconds; the engine hands it out
    /// again then.
    pub const TAKE_MS: u64 = 60_000;
    /// Most batches that the engine hands out before one of them is taken.
    pub const UNDER_WAY: i64 = 64;
    /// Largest body of a batch in bytes: texts are quoted in JSON, and instances are described.
    pub const BODY_BYTES_MAX: usize = 8 << 20;
    /// Time after which a host without news says that it is there, in milliseconds: a close can
    /// count on a host up to then.
    pub const BEAT_MS: u64 = 5_000;
    /// Time from news to the batch that holds them, in milliseconds, so that those of one operation
    /// go along together.
    pub const GATHER_MS: u64 = 200;
    /// Time until the first try after a failure, in milliseconds; it doubles with each.
    pub const RETRY_MS_MIN: u64 = 500;
    /// Longest time between two tries, in milliseconds.
    pub const RETRY_MS_MAX: u64 = 15_000;
    /// Difference between the wall clocks of a host and its collector that is shown as a fault, in
    /// nanoseconds.
    pub const CLOCK_OFF_NS: u64 = 1_000_000_000;
    /// Cache of the database of one copy in KiB: a collector may have hundreds open.
    pub const COPY_CACHE_KIB: u32 = 2_048;
}

/// Bounds of copies of segments in a store.
pub mod archive {
    /// Longest time for one operation of a store, in seconds.
    pub const OPERATION_S_MAX: u64 = 60;
    /// Longest time for a connection to a store, in seconds.
    pub const CONNECT_S_MAX: u64 = 5;
    /// Most times that a request is sent again within the time of its operation.
    pub const RETRIES_MAX: usize = 5;
    /// Longest answer of a store in bytes: no segment is longer, and it is held in memory.
    pub const ANSWER_BYTES_MAX: usize = 256 << 20;
    /// Most segments of one call of the API; whoever asks goes on with the next ones.
    pub const SEGMENTS_PER_CALL: usize = 16;
    /// Time in seconds from one round of the daemon's own sealing and copying to the next.
    pub const EVERY_S: u64 = 600;
}

/// Bounds of the API.
pub mod api {
    /// Largest body of a request, in bytes, except for an uploaded policy.
    pub const BODY_BYTES_MAX: usize = 1 << 20;
    /// Longest time that a client may ask `wait` to wait, in seconds.
    pub const WAIT_S_MAX: u64 = 3_600;
    /// Most facts on one page of the journal.
    pub const JOURNAL_PAGE_MAX: usize = 1_000;
    /// Most instances whose time is counted twice in the report of a shadowed policy.
    pub const SHADOW_INSTANCES_MAX: usize = 1_000;
    /// Most facts about a policy that are shown with it.
    pub const POLICY_HISTORY_MAX: usize = 100;
    /// Default time that `wait` waits, in seconds.
    pub const WAIT_S_DEFAULT: u64 = 60;
    /// Default number of lines of a log that are answered.
    pub const LOG_LINES_DEFAULT: usize = 100;
    /// Most lines of a log that may be asked for.
    pub const LOG_LINES_MAX: usize = 1_000_000;
    /// Longest line of a log that is answered in one piece, in bytes.
    pub const LOG_LINE_BYTES_MAX: usize = 64 << 10;
    /// Most lines that wait for a client that reads slowly.
    pub const LOG_QUEUE_LINES_MAX: usize = 256;
    /// Most connections open at a time, of all peers together; fewer if the process's limit of open
    /// files is low.
    pub const CONNECTIONS_MAX: usize = 4_096;
    /// Most connections of one address open at a time.
    pub const CONNECTIONS_PER_PEER_MAX: usize = 1_024;
    /// Longest time for the handshake of a TLS connection, in milliseconds.
    pub const HANDSHAKE_MS: u64 = 10_000;
    /// Time between two looks at the files of the certificate and other secrets, in milliseconds.
    pub const RENEW_MS: u64 = 5_000;
    /// Longest time for the head of a request, from the opening of the connection or the end of the
    /// answer before, in milliseconds; an idle connection is closed after it, too.
    pub const HEADER_READ_MS: u64 = 30_000;
    /// Longest time for the body of a request, in milliseconds. 32 MiB pass in it at 4.5 Mbit/s.
    pub const BODY_READ_MS: u64 = 60_000;
    /// Longest time that a client may read nothing of an answer, in milliseconds.
    pub const WRITE_STALL_MS: u64 = 30_000;
    /// Most requests of one tenant under way at a time, including those that wait for a state.
    pub const REQUESTS_AT_ONCE_MAX: usize = 256;
    /// Most policies of one tenant that are examined at a time. Compiling takes a processor and
    /// can't be interrupted, so that others wait for one of each tenant at most.
    pub const UPLOADS_MAX: usize = 1;
    /// Most logs and streams of facts of one tenant that are followed at a time.
    pub const FOLLOWERS_MAX: usize = 64;
    /// Most facts that wait for a client of the stream that reads slowly.
    pub const STREAM_PAGE: usize = 256;
    /// Shortest time between two looks of a stream for new facts, in milliseconds.
    pub const STREAM_PAUSE_MS: u64 = 50;
    /// Longest time that a stream goes on with a token that has ended, in milliseconds.
    pub const STREAM_TOKEN_MS: u64 = 10_000;
    /// Most proofs of one tenant that are made at a time.
    pub const PROOFS_MAX: usize = 1;
    /// Most browsers that are signed in at a time.
    pub const SESSIONS_MAX: usize = 1_024;
    /// Longest time that a browser stays signed in, in seconds.
    pub const SESSION_S: u64 = 12 * 3_600;
    /// Longest time for requests to end when the daemon stops, in milliseconds.
    pub const DRAIN_MS: u64 = 5_000;
}

/// Bounds of pulls from registries.
pub mod pull {
    /// Pulls at a time; further ones wait.
    pub const AT_ONCE: usize = 2;
    /// Pulls that wait or are under way.
    pub const WAITING_MAX: usize = 64;
    /// Failed pulls that are remembered.
    pub const FAILED_MAX: usize = 64;
    /// Layers of one image that are fetched at a time.
    pub const LAYERS_AT_ONCE: usize = 3;
    /// All blobs of an image in bytes, packed.
    pub const IMAGE_BYTES_MAX: u64 = 32 << 30;
    /// The answer of a token server, in bytes.
    pub const TOKEN_BYTES_MAX: usize = 64 << 10;
    /// Redirects that are followed for one request.
    pub const REDIRECTS_MAX: usize = 5;
    /// Time for a connection to a registry, in milliseconds.
    pub const CONNECT_MS_MAX: u64 = 10_000;
    /// Time in which a registry has to send a document, or [`SLOW_BYTES`] of a blob, in
    /// milliseconds.
    pub const ANSWER_MS_MAX: u64 = 30_000;
    /// Bytes of a blob that have to come in [`ANSWER_MS_MAX`], unless it ends before: some 2 kB/s.
    pub const SLOW_BYTES: u64 = 64 << 10;
    /// Further tries to fetch a blob that bring nothing new.
    pub const TRIES_MAX: u32 = 3;
    /// Pause before the first further try, in milliseconds; it doubles with each.
    pub const PAUSE_MS: u64 = 500;
    /// Time that the creation of an instance waits for its image, in milliseconds: less than the
    /// minute after which client libraries ask again.
    pub const CREATE_WAIT_MS: u64 = 45_000;
    /// Interval at which images that nothing uses are looked for, in milliseconds.
    pub const PRUNE_EVERY_MS: u64 = 3_600_000;
}
