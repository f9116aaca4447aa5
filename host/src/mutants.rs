//! Faults that tests plant, to show that the simulation of the host finds them; those of `money`,
//! that other tests find.

/// Causes of wrong bills. Each is found within 5,000 generated cases by the test that names it.
pub mod money {
    biller::planted_faults! {
        /// A document stays although the balances that its period began from have changed.
        CascadeForgotten,
        /// Credits pay for periods that nobody is billed for.
        UnbilledTimePays,
        /// The difference of a correction is rounded by itself.
        PayablesAlone,
        /// A book that is set later holds from its instant on, whatever is planned.
        PlansReplaced,
        /// A period may be billed in two currencies.
        CurrenciesMixed,
        /// A close up to an instant that was closed is refused.
        RepeatedCloseRefused,
        /// A boot counts as `initializing` for ever.
        BootsNeverEnd,
        /// The book of an override also holds for time without a book.
        OverridesReachBack,
        /// A policy's own line may state more than its intervals held.
        OwnLinesUnchecked,
        /// A policy's own line may bill more than its component declares.
        RatioIgnored,
        /// The budget of a policy counts intervals alone.
        BudgetByIntervals,
        /// A book is not held against the meters of the policies that it meets.
        MeetingSkipped,
        /// A tenant's admin may charge, whether or not that is delegated.
        PayerCharges,
        /// A close does not wait for machines that were not looked at since the start.
        UnseenIgnored,
        /// A rollback takes no policy off.
        RollbackUndone,
        /// An account that owes time owes it for ever.
        DegradedForEver,
        /// An instant in the past is taken as now.
        PastIsNow,
        /// A plan for an hour that is shown twice means the first.
        TwiceIsFirst,
    }

    /// Number of generated cases within which a fault must be found.
    #[cfg(test)]
    const CASES_MAX: u32 = 5_000;

    /// Holds a property to generated cases, and returns whether one shows the fault.
    #[cfg(test)]
    pub(crate) fn is_found<S: proptest::strategy::Strategy>(
        mutant: Mutant,
        cases: &S,
        holds: impl Fn(&S::Value) -> bool,
    ) -> bool {
        use proptest::strategy::ValueTree;

        let mut runner = proptest::test_runner::TestRunner::deterministic();
        (0..CASES_MAX).any(|_| {
            let case = cases.new_tree(&mut runner).expect("a case").current();
            assert!(holds(&case), "a case without the fault");
            !mutant.during(|| holds(&case))
        })
    }
}

biller::planted_faults! {
    /// Commits are answered before the disk has confirmed them.
    SyncSkipped,
    /// Readers see facts that are only written.
    UnsyncedShown,
    /// After a failed transaction the writer goes on from the end that it had planned.
    RollbackForgotten,
    /// An instance's facts may go back in time.
    FactsGoBack,
    /// An instance's facts are not linked.
    LinkLost,
    /// The account that a commit returns is not taken over.
    BalanceLost,
    /// A visit is not split where the policy changes.
    SplitForgotten,
    /// Every start of the daemon anchors the clock anew.
    AnchorMoved,
    /// The wall clock is believed at a new boot, whoever has set it.
    GapBelieved,
    /// The calendar's offset is ignored at a new boot.
    OffsetIgnored,
    /// Steps of the wall clock are not noticed.
    StepUnseen,
    /// The machine of an earlier boot counts as alive until the last one ended.
    BootsMixed,
    /// Recovery stamps the end of a machine with the present.
    RecoveryStampsNow,
    /// The log of a machine that has ended is not read.
    ReplayForgotten,
    /// Time that nobody saw counts as having gone on until now.
    LostAsAlive,
    /// A change of the vCPUs without proof is stamped with the present, and nothing is in doubt.
    DoubtForgotten,
    /// An exit that arrives while a call fails is noted after the failure.
    ArrivedIgnored,
    /// Intents are no facts.
    IntentUnwritten,
    /// A deadline ends the intent of an act that can't be undone.
    DeadlineEndsIntent,
    /// A monitor that a failed launch has left is not ended.
    LaunchLeft,
    /// Restarts that are due are forgotten with the daemon.
    RestartForgotten,
    /// The memory of a restore that never ran is dropped.
    MemoryDropped,
}
