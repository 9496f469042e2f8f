//! The rules that forbid two primaries, by name. A build with the feature `mutations` can switch one off, so that the simulator shows that it
//! finds out; in any other build each is in force, and this page is nothing to the compiler.

/// A rule of `voter.rs`, `claim.rs`, or of those who act for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Rule {
    /// A vote that is bound to one node is refused to all others.
    Bound = 1,
    /// An epoch that is not above the highest seen is refused.
    Epochs,
    /// A voter adds the drift of clocks to what it promises.
    Drift,
    /// A renewal binds the vote again.
    Renewal,
    /// A release of an older epoch does not free the vote for a newer one.
    OldRelease,
    /// A vote is on disk before it is given.
    RecordFirst,
    /// A vote that cannot be written is not given.
    NotRecorded,
    /// A recorded vote binds after a restart.
    RecordBinds,
    /// Without its record a voter waits.
    LostRecord,
    /// Only a candidate that counts the same voters gets a vote.
    SameVoters,
    /// A reload does not change the voters while the vote is bound.
    PendingVoters,
    /// The voters in force outlive a restart, and nobody is told of those that would not.
    VotersRecorded,
    /// Who takes a step to other voters knows the epochs of those before.
    EpochsOfSteps,
    /// More than half of all voters are needed.
    Majority,
    /// The lease counts from before the first question.
    CountFromAsking,
    /// Longer terms need a new epoch.
    NewTerms,
    /// `start` begins inside of the lease alone.
    StartInside,
    /// What runs is stopped at the end of the lease.
    StopAtEnd,
    /// At the end of the lease `stop` waits for no other hook.
    MakeWay,
    /// The lease is given back after `stop`, not before.
    StopThenRelease,
    /// What a worker that died has left running goes on no longer than its lease.
    KeepUntil,
    /// While that runs, a candidate on the same node does not give back the votes that it got: they are those of that lease, too.
    KeepVotes,
    /// A primary's worker that stands still is replaced in time.
    ReplaceFrozen,
    /// What an earlier worker of a node has said does not count for its later one.
    CloseOlder,
    /// A vote that is kept binds until its holder asks again, whatever the time.
    KeptBinds,
    /// Only what a majority keeps its votes for is left running by a worker that ends.
    KeptMajority,
}

impl Rule {
    /// All of them.
    pub const ALL: [Self; 26] = [
        Self::Bound,
        Self::Epochs,
        Self::Drift,
        Self::Renewal,
        Self::OldRelease,
        Self::RecordFirst,
        Self::NotRecorded,
        Self::RecordBinds,
        Self::LostRecord,
        Self::SameVoters,
        Self::PendingVoters,
        Self::VotersRecorded,
        Self::EpochsOfSteps,
        Self::Majority,
        Self::CountFromAsking,
        Self::NewTerms,
        Self::StartInside,
        Self::StopAtEnd,
        Self::MakeWay,
        Self::StopThenRelease,
        Self::KeepUntil,
        Self::KeepVotes,
        Self::ReplaceFrozen,
        Self::CloseOlder,
        Self::KeptBinds,
        Self::KeptMajority,
    ];
}

/// Whether a rule is switched off.
#[cfg(not(feature = "mutations"))]
#[inline]
pub(crate) const fn is_off(_: Rule) -> bool {
    false
}

#[cfg(feature = "mutations")]
static OFF: core::sync::atomic::AtomicU32 = core::sync::atomic::AtomicU32::new(0);

/// Whether a rule is switched off.
#[cfg(feature = "mutations")]
pub(crate) fn is_off(rule: Rule) -> bool {
    OFF.load(core::sync::atomic::Ordering::Relaxed) & (1 << rule as u32) != 0
}

/// Switches these rules off, for all of this process, and all others on.
#[cfg(feature = "mutations")]
pub fn switch_off(rules: &[Rule]) {
    let off = rules.iter().fold(0, |off, rule| off | 1 << *rule as u32);
    OFF.store(off, core::sync::atomic::Ordering::Relaxed);
}
