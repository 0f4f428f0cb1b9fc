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
    /// A step of the wall clock reaches the engine in small ones.
    StepsHidden,
    /// After the wall clock is set back, time stands still until it has caught up.
    TimeStandsStill,
    /// Connections are made from the first local address of a relay, whichever is wanted.
    SourceIgnored,
    /// Sessions are told that TLS is a courtesy, whatever their relay asks for.
    PolicyForgotten,
    /// No second connection is made after a handshake that failed.
    NoSecondTry,
}
