//! Bugs that are planted between the engine and the world, to see that the checks find them.

/// What goes wrong on purpose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// Now and then results are reported as recorded that were not.
    SettlementDropped,
    /// Now and then an envelope is tried before its time.
    StartedEarly,
    /// Now and then a transaction is given to a second session, too.
    HandedOutTwice,
    /// Twice as many connections are made as the limits allow.
    LimitsDoubled,
    /// Delays between connections are not kept.
    DelaysIgnored,
    /// A connection that breaks after the final dot is taken for success.
    SilenceBelieved,
    /// A delivery that has succeeded is now and then taken for a failure.
    SuccessForgotten,
    /// The schedule never hears of some messages.
    MailForgotten,
    /// After a restart the schedule is not told of everything in the store.
    RestartForgets,
    /// No notice is made for mail that failed.
    NoticeDropped,
}
