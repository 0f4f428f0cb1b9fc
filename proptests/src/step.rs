//! Random transitions on few ids, so that they meet: submissions of ids in use, settlements of
//! envelopes that are gone, bounces that clash.

use crate::mail;
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use redspool_core::envelope::Envelope;
use redspool_core::id::{EnvelopeId, MessageId};
use redspool_core::queue::{Body, Change, Paused, Selector, Settlement, Span, Transition};
use redspool_core::reply::Status;
use redspool_core::time::Timestamp;
use std::net::{IpAddr, Ipv6Addr};

/// A transition that can be cloned and shown.
#[derive(Clone, Debug)]
pub enum Step {
    /// A message with this many recipients and octets enters, in pieces of this size if not 0.
    Submit(MessageId, u32, usize, usize),
    /// These attempts end.
    Settle(Vec<Settlement>),
    /// A notice about these bounces enters, or they just leave.
    Notify(Option<MessageId>, Vec<EnvelopeId>),
    /// See the transition of the same name.
    Remove(Selector),
    /// See the transition of the same name.
    Suspend(Selector, bool),
    /// See the transition of the same name.
    Pause(Paused),
    /// See the transition of the same name.
    Block(IpAddr, &'static str, bool),
    /// See the transition of the same name.
    Corrupt(MessageId),
    /// See the transition of the same name.
    Uncorrupt(MessageId),
    /// See the transition of the same name.
    Discard(Span, Timestamp),
    /// See the transition of the same name.
    Restore(Span, Option<Timestamp>),
    /// See the transition of the same name.
    Purge(Span, Timestamp),
}

impl Step {
    /// The transition.
    pub fn transition(&self) -> Transition {
        match self {
            Self::Submit(message, recipients, length, piece) => {
                let content = mail::content(*message, *length);
                let body = match piece {
                    0 => Body::Whole(content),
                    size => mail::pieces(content, *size, None),
                };
                Transition::Submit(mail::submission(*message, *recipients, body))
            }
            Self::Settle(settlements) => Transition::Settle(settlements.clone()),
            Self::Notify(notice, reported) => Transition::Notify {
                notice: notice.map(|message| {
                    let body = Body::Whole(mail::content(message, 300));
                    mail::submission(message, 1, body)
                }),
                reported: reported.clone(),
            },
            Self::Remove(selector) => Transition::Remove(*selector),
            Self::Suspend(selector, suspended) => Transition::Suspend {
                selector: *selector,
                suspended: *suspended,
            },
            Self::Pause(paused) => Transition::Pause(*paused),
            Self::Block(source, domain, blocked) => Transition::Block {
                source: *source,
                domain: (*domain).into(),
                blocked: *blocked,
            },
            Self::Corrupt(message) => Transition::Corrupt {
                message: *message,
                reason: format!("{message} looked odd").into(),
                at: Timestamp::from_secs(1_700_000_123),
            },
            Self::Uncorrupt(message) => Transition::Uncorrupt(*message),
            Self::Discard(span, at) => Transition::Discard {
                span: *span,
                at: *at,
            },
            Self::Restore(span, at) => Transition::Restore {
                span: *span,
                at: *at,
            },
            Self::Purge(span, until) => Transition::Purge {
                span: *span,
                until: *until,
            },
        }
    }
}

/// Any step.
pub fn any_step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![
        32 => 0..3_000usize,
        4 => 9_000..30_000usize,
        2 => 60_000..140_000usize,
        1 => 262_144..300_000usize,
    ];
    let piece = prop_oneof![3 => Just(0usize), 1 => 1_000..70_000usize];
    prop_oneof![
        8 => (any_message(), 1..4u32, length, piece)
            .prop_map(|(message, recipients, length, piece)| {
                Step::Submit(message, recipients, length, piece)
            }),
        8 => vec(any_settlement(), 0..5).prop_map(Step::Settle),
        2 => (option::of(any_message()), vec(any_envelope_id(), 0..3))
            .prop_map(|(notice, reported)| Step::Notify(notice, reported)),
        2 => any_selector().prop_map(Step::Remove),
        2 => (any_selector(), any::<bool>())
            .prop_map(|(selector, suspended)| Step::Suspend(selector, suspended)),
        1 => any::<[bool; 3]>().prop_map(|[mda, mta, smtp]| Step::Pause(Paused { mda, mta, smtp })),
        1 => any_block(),
        2 => any_message().prop_map(Step::Corrupt),
        2 => any_message().prop_map(Step::Uncorrupt),
        3 => (any_span(), any_time()).prop_map(|(span, at)| Step::Discard(span, at)),
        2 => (any_span(), option::of(any_time())).prop_map(|(span, at)| Step::Restore(span, at)),
        1 => (any_span(), any_time()).prop_map(|(span, until)| Step::Purge(span, until)),
    ]
}

/// `groups` groups of steps that follow from `seed`.
pub fn script(seed: u64, groups: usize) -> Vec<Vec<Step>> {
    let mut octets = [0; 32];
    octets[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &octets);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let tree = vec(vec(any_step(), 1..5), groups).new_tree(&mut runner);
    tree.expect("nothing is filtered").current()
}

/// Every kind of step, in an order in which each does something.
pub fn tour() -> Vec<Vec<Step>> {
    let id = |number, low| mail::envelope_id(mail::message(number), low);
    let settlement = |envelope: EnvelopeId, change, bounce: Option<u32>| Settlement {
        envelope,
        change,
        bounce: bounce.map(|low| Box::new(mail::bounce(envelope.message(), low))),
    };
    let retry = Change::Retry {
        retry: 1,
        last_try: Timestamp::from_secs(1_700_000_900),
        status: Some(Status::transient(4, 1)),
        errorline: "451 later".into(),
        via: Some(Box::new(mail::via())),
        warned: None,
    };
    let submit =
        |number, recipients, length| Step::Submit(mail::message(number), recipients, length, 0);
    let paused = Paused {
        mda: true,
        ..Paused::default()
    };
    vec![
        vec![submit(0, 2, 700), submit(1, 3, 2_000)],
        vec![Step::Settle(vec![settlement(
            id(0, 1),
            retry.clone(),
            None,
        )])],
        vec![submit(2, 1, 40_000), submit(3, 2, 9), submit(0, 1, 5)],
        vec![
            Step::Settle(vec![settlement(id(0, 2), Change::Done, Some(4))]),
            Step::Settle(vec![
                settlement(id(2, 1), retry, None),
                settlement(id(3, 1), Change::Done, None),
            ]),
        ],
        vec![Step::Notify(Some(mail::message(4)), vec![id(0, 4)])],
        vec![Step::Suspend(Selector::Message(mail::message(1)), true)],
        vec![Step::Corrupt(mail::message(1)), Step::Pause(paused)],
        vec![
            Step::Block([192, 0, 2, 1].into(), "a.example", true),
            Step::Block(Ipv6Addr::LOCALHOST.into(), "*", true),
        ],
        vec![Step::Uncorrupt(mail::message(1)), submit(5, 2, 300)],
        vec![Step::Settle(vec![settlement(id(0, 1), Change::Done, None)])],
        vec![
            Step::Remove(Selector::Envelope(id(5, 2))),
            submit(0, 2, 1_500),
        ],
        vec![
            Step::Corrupt(mail::message(3)),
            Step::Remove(Selector::Message(mail::message(3))),
        ],
        vec![
            Step::Discard(Span::all(Selector::Message(mail::message(1))), time(1)),
            submit(6, 3, 800),
        ],
        vec![Step::Discard(
            Span {
                most: 2,
                ..Span::all(Selector::Message(mail::message(6)))
            },
            time(2),
        )],
        vec![
            Step::Suspend(Selector::All, true),
            Step::Corrupt(mail::message(6)),
        ],
        vec![Step::Uncorrupt(mail::message(6))],
        vec![
            Step::Restore(Span::all(Selector::All), Some(time(2))),
            Step::Settle(vec![settlement(id(1, 1), Change::Done, Some(5))]),
        ],
        vec![Step::Discard(Span::all(Selector::All), time(3))],
        vec![Step::Purge(Span::all(Selector::All), time(1))],
        vec![Step::Restore(Span::all(Selector::Envelope(id(6, 2))), None)],
        vec![
            Step::Discard(Span::all(Selector::Envelope(id(6, 2))), time(4)),
            submit(7, 2, 100),
        ],
        vec![Step::Block([192, 0, 2, 1].into(), "a.example", false)],
        vec![Step::Pause(Paused::default()), Step::Remove(Selector::All)],
    ]
}

/// A time at which something is discarded.
fn time(number: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_200 + number)
}

fn any_time() -> impl Strategy<Value = Timestamp> {
    (0..4u64).prop_map(time)
}

fn any_block() -> impl Strategy<Value = Step> {
    let source = prop_oneof![
        Just(IpAddr::from([192, 0, 2, 1])),
        Just(IpAddr::from(Ipv6Addr::LOCALHOST))
    ];
    let domain = prop_oneof![Just("a.example"), Just("b.example"), Just("*")];
    (source, domain, any::<bool>())
        .prop_map(|(source, domain, blocked)| Step::Block(source, domain, blocked))
}

fn any_span() -> impl Strategy<Value = Span> {
    let most = prop_oneof![2 => Just(usize::MAX), 1 => 0..4usize];
    let after = option::weighted(0.2, any_envelope_id());
    (any_selector(), after, most).prop_map(|(selector, after, most)| Span {
        selector,
        after,
        most,
    })
}

fn any_message() -> impl Strategy<Value = MessageId> {
    (0..6u32).prop_map(mail::message)
}

fn any_envelope_id() -> impl Strategy<Value = EnvelopeId> {
    (any_message(), 1..7u32).prop_map(|(message, low)| mail::envelope_id(message, low))
}

fn any_selector() -> impl Strategy<Value = Selector> {
    prop_oneof![
        4 => any_envelope_id().prop_map(Selector::Envelope),
        4 => any_message().prop_map(Selector::Message),
        1 => Just(Selector::All),
    ]
}

fn any_settlement() -> impl Strategy<Value = Settlement> {
    let date = || (1_700_000_001..1_700_009_999u64).prop_map(Timestamp::from_secs);
    let via = option::of(Just(Box::new(mail::via())));
    let retry = (
        any::<u16>(),
        date(),
        "[a-z \\n]{0,30}",
        via,
        option::of(date()),
    )
        .prop_map(|(retry, last_try, errorline, via, warned)| Change::Retry {
            retry,
            last_try,
            status: Some(Status::transient(4, retry % 10)),
            errorline: errorline.into(),
            via,
            warned,
        });
    let change = prop_oneof![Just(Change::Done), retry];
    // Ids 4 to 6 belong to no recipient, but two settlements may choose the same.
    let bounce = option::weighted(0.3, 3..7u32);
    (any_envelope_id(), change, bounce).prop_map(|(envelope, change, bounce)| Settlement {
        envelope,
        change,
        bounce: bounce
            .map(|low| -> Box<Envelope> { Box::new(mail::bounce(envelope.message(), low)) }),
    })
}
