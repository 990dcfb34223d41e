//! Deliberate bugs, so that the simulation can show that it would see them.
//!
//! Each is one line of a promise left out at one place, handed down explicitly by constructors that nothing but
//! simulation calls. Invariants: no configuration, environment or global leads here; without a sabotage every place
//! does what it should. Does not know who catches which: `docs/testing.md` has the table.

/// A bug that is built in on purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sabotage {
    /// The log syncs no file.
    SkipSync,
    /// The log syncs no directory.
    SkipDirectorySync,
    /// A sync of the log that failed is tried again.
    RetrySync,
    /// What recovery finds above the mark is served without being written anew.
    ServeRecoveredTail,
    /// Recovery cuts whole groups that lie above the mark.
    CutGoodGroups,
    /// Recovery takes a group for good when its header is.
    IgnoreChecksums,
    /// A segment gets its name before its bytes are synced.
    PublishBeforeSync,
    /// The mark vouches for a group before it is durable.
    MarkAhead,
    /// The mark vouches for bytes behind the last group.
    MarkBeyondTail,
    /// A group begins at the last position of the one before.
    ReusePosition,
    /// The log goes on after a failed write or sync.
    IgnorePoison,
    /// All answers are sent before their group is written.
    AnswerAllEarly,
    /// Readers see a group before it is written.
    ShowEarly,
    /// An answer that says "already applied" does not wait for the group it rests on.
    AnswerKnownEarly,
    /// A refusal does not wait for the group it rests on.
    AnswerRefusedEarly,
    /// Requests are judged without the streams of the group being built.
    StaleHeads,
    /// Requests are judged without the ids of the group being built.
    ForgetIds,
    /// Queries are judged without the group being built.
    QueryDurableOnly,
    /// Queries are judged over all of the log, whatever `after` says.
    IgnoreAfter,
    /// Positions of sources are taken as they come.
    TrackingBack,
    /// What one sync should make durable is written as two groups.
    SplitGroup,
    /// A projection's cursor moves without its documents.
    CursorAhead,
    /// What a projection sets aside is committed before the documents and the cursor that go with it.
    LedgerApart,
    /// Of several documents that a commit changes, one is not told to watchers.
    ChangeUntold,
    /// A document that is replaced stays in the content hash.
    StaleHash,
    /// A version becomes active before it shows what the one before has shown.
    EarlyFlip,
    /// An import goes on behind events that are missing.
    IgnoreGap,
    /// An import takes a number again that it has had.
    AcceptLowerSeq,
    /// An import takes an event of an epoch before the one it is in.
    AcceptOldEpoch,
    /// An import takes events whose chain does not continue its own.
    IgnoreFork,
    /// An import does without signatures.
    SkipSignature,
    /// An import believes owners that nobody vouches for.
    AcceptUnknownOwner,
    /// An import believes a key of another node.
    AcceptForeignKey,
    /// An import's cursor is stored in an append of its own, before the events.
    CursorApart,
    /// An import does not look whether the owner still has its place.
    IgnoreStaleEpoch,
    /// An import goes on with another definition under the same version.
    IgnoreDefinition,
    /// An import passes events by that it cannot map.
    MapWithoutStopping,
    /// An import takes events whose stream waits behind a parked one.
    ApplyBehindParked,
    /// An export lets imported events out again.
    ReexportImport,
    /// An export does not look for a message whose publish came to an unknown end before it sends it again.
    ResendBlindly,
    /// An export takes a message whose publish came to an unknown end for published.
    ForgetUnknown,
    /// An export goes on where another log publishes under its name.
    IgnoreNameTaken,
    /// An export goes on below what it has published.
    IgnoreRewind,
}
