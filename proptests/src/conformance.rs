//! What every store must do, case by case.
//!
//! What: [`conformance`] runs all cases on fresh stores of one kind; a case panics where the store
//! differs from the contract in `redspool_core::queue`.
//! Absent on purpose: damage below the store, which each kind suffers in its own way.

use crate::books::{self, Books};
use crate::mail::{self, envelope_id, message};
use redspool_core::envelope::Attempt;
use redspool_core::id::{EnvelopeId, Epoch};
use redspool_core::queue::{
    Blocks, Body, Change, Paused, Prepare, Reader, Receipt, Refusal, Selector, Settlement, Span,
    Store, StoreError, Transition,
};
use redspool_core::reply::Status;
use redspool_core::time::Timestamp;
use std::net::IpAddr;

/// Where stores of one kind are kept.
pub trait Place {
    /// The kind.
    type Store: Store;

    /// A place with an empty store.
    fn fresh() -> (Self, Self::Store)
    where
        Self: Sized;

    /// Closes the store and opens it again.
    fn reopen(&mut self, store: Self::Store) -> Self::Store;
}

/// Runs every case.
pub fn conformance<P: Place>() {
    let cases: [fn(&mut Bench<P>); 21] = [
        an_empty_store_has_nothing,
        a_submission_is_there_whole,
        contents_of_any_length_come_back,
        a_content_that_ends_in_an_error_leaves_nothing,
        ids_in_use_are_refused,
        the_last_envelope_takes_its_message_along,
        a_retry_changes_what_it_says,
        an_envelope_keeps_its_attempts,
        a_bounce_keeps_its_message,
        a_notice_replaces_what_it_reports,
        removal_takes_what_was_selected,
        suspension_names_what_it_changed,
        pauses_last,
        sources_and_domains_stay_apart,
        the_corrupt_bucket_holds_whole_messages,
        pages_show_every_envelope_once,
        what_is_discarded_comes_back_as_it_was,
        the_trash_is_emptied_by_age_and_by_name,
        what_comes_twice_in_one_call_is_there,
        settlements_reach_into_the_trash,
        a_message_is_set_aside_with_what_is_in_the_trash,
    ];
    for case in cases {
        let (place, store) = P::fresh();
        case(&mut Bench {
            place,
            store: Some(store),
        });
    }
}

/// A store under test. After every transition it is read whole, closed, opened and read again.
struct Bench<P: Place> {
    place: P,
    store: Option<P::Store>,
}

impl<P: Place> Bench<P> {
    fn store(&mut self) -> &mut P::Store {
        self.store.as_mut().expect("it is put back after reopening")
    }

    fn reader(&mut self) -> <P::Store as Store>::Reader {
        self.store().reader()
    }

    fn books(&mut self) -> Books {
        Books::read(&self.reader()).expect("nothing is damaged")
    }

    fn group(&mut self, transitions: Vec<Transition>) -> Vec<Receipt> {
        let preparer = self.store().preparer();
        let prepared = transitions.into_iter().map(|one| preparer.prepare(one));
        let prepared = prepared.collect::<Result<_, _>>().expect("it is in memory");
        let receipts = self.store().commit(prepared).expect("the disk is fine");
        let before = self.books();
        self.reopen();
        assert_eq!(self.books(), before, "reopening changed the store");
        receipts
    }

    fn reopen(&mut self) {
        let store = self.store.take().expect("it is put back after reopening");
        self.store = Some(self.place.reopen(store));
    }

    fn commit(&mut self, transition: Transition) -> Receipt {
        self.group(vec![transition]).remove(0)
    }

    fn submit(&mut self, number: u32, recipients: u32) {
        assert_eq!(self.commit(submit(number, recipients)), Receipt::Done);
    }

    fn settle(&mut self, settlements: Vec<Settlement>) -> Receipt {
        self.commit(Transition::Settle(settlements))
    }

    /// A transition that must change nothing.
    fn refused(&mut self, transition: Transition, why: Refusal) {
        let before = self.books();
        assert_eq!(self.commit(transition), Receipt::Refused(why));
        assert_eq!(self.books(), before);
    }

    fn queued(&mut self) -> Vec<EnvelopeId> {
        self.books().envelopes.keys().copied().collect()
    }
}

fn submit(number: u32, recipients: u32) -> Transition {
    let message = message(number);
    let body = Body::Whole(mail::content(message, 700));
    Transition::Submit(mail::submission(message, recipients, body))
}

fn id(number: u32, low: u32) -> EnvelopeId {
    envelope_id(message(number), low)
}

fn done(envelope: EnvelopeId) -> Settlement {
    Settlement {
        envelope,
        change: Change::Done,
        bounce: None,
    }
}

fn bounced(envelope: EnvelopeId, low: u32) -> Settlement {
    Settlement {
        bounce: Some(Box::new(mail::bounce(envelope.message(), low))),
        ..done(envelope)
    }
}

fn retry(envelope: EnvelopeId, warned: Option<Timestamp>) -> Settlement {
    Settlement {
        envelope,
        change: Change::Retry {
            retry: 3,
            last_try: Timestamp::from_secs(1_700_001_000),
            status: Some(Status::transient(7, 1)),
            errorline: "451 4.7.1 come\nback|later".into(),
            via: Some(Box::new(mail::via())),
            warned,
        },
        bounce: None,
    }
}

fn an_empty_store_has_nothing<P: Place>(bench: &mut Bench<P>) {
    assert_eq!(bench.books(), Books::default());
    let reader = bench.reader();
    assert_eq!(reader.exists(message(1)), Ok(false));
    assert_eq!(reader.message(message(1)), Ok(None));
    assert_eq!(reader.body(message(1), 0), Ok(None));
    assert_eq!(reader.envelope(id(1, 1)), Ok(None));
    assert_eq!(bench.settle(vec![done(id(1, 1))]), Receipt::Done);
    assert_eq!(bench.books(), Books::default());
}

fn a_submission_is_there_whole<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 3);
    let books = bench.books();
    let want: Vec<_> = (1..=3).map(|low| mail::envelope(message(1), low)).collect();
    assert_eq!(books.envelopes.into_values().collect::<Vec<_>>(), want);
    let (facts, body) = &books.messages[&message(1)];
    assert_eq!((facts.size, facts.ctime), (700, want[0].ctime));
    assert_eq!(body[..], mail::content(message(1), 700)[..]);
    let epoch = Epoch::of(message(1));
    assert_eq!(books.epoch, Some(epoch));
    assert_eq!(bench.reader().live(epoch), Ok(vec![message(1)]));
    assert_eq!(bench.reader().live(epoch.next()), Ok(vec![]));
}

fn contents_of_any_length_come_back<P: Place>(bench: &mut Bench<P>) {
    let edge = (64 << 10) - 256;
    for (number, length) in (1..).zip([0, 1, edge - 1, edge, edge + 1, 2 * edge, 200_000]) {
        let message = message(number);
        let content = mail::content(message, length);
        let body = match number % 2 {
            0 => Body::Whole(content.clone()),
            _ => mail::pieces(content.clone(), 7_001, None),
        };
        let submission = mail::submission(message, 1, body);
        assert_eq!(bench.commit(Transition::Submit(submission)), Receipt::Done);
        let read = books::body(&bench.reader(), message).expect("nothing is damaged");
        assert_eq!(read[..], content[..], "{length} octets");
    }
}

fn a_content_that_ends_in_an_error_leaves_nothing<P: Place>(bench: &mut Bench<P>) {
    let content = mail::content(message(1), 90_000);
    let body = mail::pieces(content, 30_000, Some(StoreError::Full));
    let submission = mail::submission(message(1), 1, body);
    let prepared = bench.store().prepare(Transition::Submit(submission));
    assert_eq!(prepared.err(), Some(StoreError::Full));
    assert!(bench.books().is_empty());
}

fn ids_in_use_are_refused<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 2);
    bench.refused(submit(1, 1), Refusal::Exists);
    let mut twice = mail::submission(message(2), 2, Body::Whole(mail::content(message(2), 9)));
    twice.envelopes[1].id = twice.envelopes[0].id;
    bench.refused(Transition::Submit(twice), Refusal::Exists);
    // Within one group the first wins, and the others are not affected.
    let group = vec![submit(3, 1), submit(3, 2), submit(1, 1), submit(4, 1)];
    let exists = Receipt::Refused(Refusal::Exists);
    let want = [Receipt::Done, exists.clone(), exists, Receipt::Done];
    assert_eq!(bench.group(group), want);
    assert_eq!(bench.queued(), [id(1, 1), id(1, 2), id(3, 1), id(4, 1)]);
    // A bounce under the id of an envelope, or two under one, change nothing at all.
    let clash = vec![done(id(3, 1)), bounced(id(1, 1), 2)];
    bench.refused(Transition::Settle(clash), Refusal::Exists);
    let clash = vec![bounced(id(1, 1), 9), bounced(id(1, 2), 9)];
    bench.refused(Transition::Settle(clash), Refusal::Exists);
    // An id in the corrupt bucket is in use.
    assert!(matches!(bench.commit(corrupt(4)), Receipt::Affected(_)));
    bench.refused(submit(4, 1), Refusal::Exists);
    assert_eq!(bench.reader().exists(message(4)), Ok(true));
}

fn the_last_envelope_takes_its_message_along<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 2);
    bench.submit(2, 1);
    assert_eq!(bench.settle(vec![done(id(1, 2))]), Receipt::Done);
    assert_eq!(bench.reader().exists(message(1)), Ok(true));
    // Of the one that is gone already nothing changes; its bounce is not created.
    assert_eq!(bench.settle(vec![bounced(id(1, 2), 9)]), Receipt::Done);
    assert_eq!(bench.queued(), [id(1, 1), id(2, 1)]);
    assert_eq!(bench.settle(vec![done(id(1, 1))]), Receipt::Done);
    let reader = bench.reader();
    assert_eq!(reader.exists(message(1)), Ok(false));
    assert_eq!(reader.message(message(1)), Ok(None));
    assert_eq!(reader.body(message(1), 0), Ok(None));
    assert_eq!(bench.queued(), [id(2, 1)]);
    // The id may be used again; nothing of the old message shows.
    let fresh = mail::submission(message(1), 1, Body::Whole(mail::content(message(2), 5)));
    assert_eq!(bench.commit(Transition::Submit(fresh)), Receipt::Done);
    assert_eq!(bench.books().messages[&message(1)].1.len(), 5);
}

fn a_retry_changes_what_it_says<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 2);
    let warned = Timestamp::from_secs(1_700_002_000);
    let settlements = vec![retry(id(1, 1), None), retry(id(1, 2), Some(warned))];
    assert_eq!(bench.settle(settlements), Receipt::Done);
    for (low, last_bounce) in [(1, Timestamp::EPOCH), (2, warned)] {
        let mut want = mail::envelope(message(1), low);
        want.retry = 3;
        want.last_try = Timestamp::from_secs(1_700_001_000);
        want.status = Some(Status::transient(7, 1));
        want.errorline = "451 4.7.1 come\nback|later".into();
        want.last_bounce = last_bounce;
        want.attempts
            .add(Some(&mail::via()), &want.errorline, (Timestamp::EPOCH, ""));
        assert_eq!(bench.reader().envelope(id(1, low)), Ok(Some(want)));
    }
}

fn an_envelope_keeps_its_attempts<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 1);
    let began = |number: u16| Timestamp::from_secs(1_700_001_000 + u64::from(number));
    let tried = |number: u16| Attempt {
        began: began(number),
        via: Some(mail::via()).filter(|_| number > 1),
        text: format!("451 {number}").into(),
    };
    let failed = |number, warned| {
        let Attempt { began, via, text } = tried(number);
        Settlement {
            envelope: id(1, 1),
            change: Change::Retry {
                retry: number,
                last_try: began,
                status: None,
                errorline: text,
                via: via.map(Box::new),
                warned,
            },
            bounce: None,
        }
    };
    for number in 1..=3 {
        assert_eq!(bench.settle(vec![failed(number, None)]), Receipt::Done);
    }
    let kept = |bench: &mut Bench<P>| bench.books().envelopes[&id(1, 1)].tried();
    assert_eq!(kept(bench), [1, 2, 3].map(tried));
    // Neither one whose receipt was lost nor a notice is another attempt.
    let again = vec![failed(3, None), failed(3, Some(began(9)))];
    assert_eq!(bench.settle(again), Receipt::Done);
    assert_eq!(kept(bench), [1, 2, 3].map(tried));
    assert_eq!(bench.books().envelopes[&id(1, 1)].last_bounce, began(9));
}

fn a_bounce_keeps_its_message<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 1);
    assert_eq!(bench.settle(vec![bounced(id(1, 1), 9)]), Receipt::Done);
    let books = bench.books();
    assert_eq!(books.envelopes[&id(1, 9)], mail::bounce(message(1), 9));
    assert_eq!((books.envelopes.len(), books.messages.len()), (1, 1));
    // A delay notice leaves both.
    let warned = Settlement {
        bounce: Some(Box::new(mail::bounce(message(1), 8))),
        ..retry(id(1, 9), None)
    };
    assert_eq!(bench.settle(vec![warned]), Receipt::Done);
    assert_eq!(bench.queued(), [id(1, 8), id(1, 9)]);
    assert_eq!(
        bench.settle(vec![done(id(1, 8)), done(id(1, 9))]),
        Receipt::Done
    );
    assert!(bench.books().is_empty());
}

fn a_notice_replaces_what_it_reports<P: Place>(bench: &mut Bench<P>) {
    let notify = |notice: Option<u32>, reported: Vec<EnvelopeId>| Transition::Notify {
        notice: notice.map(|number| {
            let body = Body::Whole(mail::content(message(number), 50));
            mail::submission(message(number), 1, body)
        }),
        reported,
    };
    bench.submit(1, 3);
    bench.submit(2, 1);
    let reported = || vec![id(1, 1), id(1, 2)];
    bench.refused(notify(Some(2), reported()), Refusal::Exists);
    assert_eq!(bench.commit(notify(Some(3), reported())), Receipt::Done);
    assert_eq!(bench.queued(), [id(1, 3), id(2, 1), id(3, 1)]);
    // Done before: nothing happens, not even a refusal.
    assert_eq!(bench.commit(notify(Some(3), reported())), Receipt::Done);
    assert_eq!(bench.commit(notify(Some(4), reported())), Receipt::Done);
    assert_eq!(bench.queued(), [id(1, 3), id(2, 1), id(3, 1)]);
    // Nobody to tell: they just leave, and the message with them.
    let last = vec![id(1, 3), id(1, 2)];
    assert_eq!(bench.commit(notify(None, last)), Receipt::Done);
    assert_eq!(bench.queued(), [id(2, 1), id(3, 1)]);
    assert_eq!(bench.reader().exists(message(1)), Ok(false));
}

fn removal_takes_what_was_selected<P: Place>(bench: &mut Bench<P>) {
    (1..=4).for_each(|number| bench.submit(number, 2));
    let remove = |selector| Transition::Remove(selector);
    let one = bench.commit(remove(Selector::Envelope(id(1, 1))));
    assert_eq!(one, Receipt::Affected(vec![id(1, 1)]));
    let again = bench.commit(remove(Selector::Envelope(id(1, 1))));
    assert_eq!(again, Receipt::Affected(vec![]));
    bench.commit(remove(Selector::Envelope(id(1, 2))));
    assert_eq!(bench.reader().exists(message(1)), Ok(false));
    let two = bench.commit(remove(Selector::Message(message(2))));
    assert_eq!(two, Receipt::Affected(vec![id(2, 1), id(2, 2)]));
    bench.commit(corrupt(3));
    let all = bench.commit(remove(Selector::All));
    assert_eq!(all, Receipt::Affected(vec![id(4, 1), id(4, 2)]));
    let books = bench.books();
    assert!(books.envelopes.is_empty());
    assert_eq!(books.corrupt.len(), 1, "`all` means the queue");
    let bucket = bench.commit(remove(Selector::Message(message(3))));
    assert_eq!(bucket, Receipt::Affected(vec![id(3, 1), id(3, 2)]));
    assert!(bench.books().is_empty());
}

fn suspension_names_what_it_changed<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 2);
    bench.submit(2, 1);
    let mut suspend = |selector, suspended, want: &[EnvelopeId]| {
        let transition = Transition::Suspend {
            selector,
            suspended,
        };
        assert_eq!(bench.commit(transition), Receipt::Affected(want.to_vec()));
        let envelopes = bench.books().envelopes.into_values();
        let suspended = envelopes.filter(|envelope| envelope.flags.suspended);
        suspended.map(|envelope| envelope.id).collect::<Vec<_>>()
    };
    let first = Selector::Envelope(id(1, 1));
    assert_eq!(suspend(first, true, &[id(1, 1)]), [id(1, 1)]);
    assert_eq!(suspend(first, true, &[]), [id(1, 1)]);
    let message = Selector::Message(message(1));
    assert_eq!(suspend(message, true, &[id(1, 2)]), [id(1, 1), id(1, 2)]);
    assert_eq!(suspend(first, false, &[id(1, 1)]), [id(1, 2)]);
    let rest = [id(1, 1), id(2, 1)];
    assert_eq!(suspend(Selector::All, true, &rest).len(), 3);
    assert_eq!(suspend(Selector::Envelope(id(9, 9)), true, &[]).len(), 3);
}

fn pauses_last<P: Place>(bench: &mut Bench<P>) {
    let paused = Paused {
        mda: true,
        mta: false,
        smtp: true,
    };
    assert_eq!(bench.commit(Transition::Pause(paused)), Receipt::Done);
    assert_eq!(bench.reader().paused(), Ok(paused));
    let resumed = Paused::default();
    assert_eq!(bench.commit(Transition::Pause(resumed)), Receipt::Done);
    assert_eq!(bench.reader().paused(), Ok(resumed));
}

fn sources_and_domains_stay_apart<P: Place>(bench: &mut Bench<P>) {
    let block = |source: &str, domain: &str, blocked| Transition::Block {
        source: source.parse().expect("an address"),
        domain: domain.into(),
        blocked,
    };
    let pair = |source: &str, domain: &str| -> (IpAddr, Box<str>) {
        (source.parse().expect("an address"), domain.into())
    };
    assert_eq!(bench.reader().blocks(), Ok(Blocks::new()));
    // Again, and what is not there: both change nothing.
    let receipts = bench.group(vec![
        block("192.0.2.1", "a.example", true),
        block("2001:db8::1", "*", true),
        block("192.0.2.1", "a.example", true),
        block("192.0.2.1", "b.example", false),
    ]);
    assert_eq!(receipts, vec![Receipt::Done; 4]);
    let both = Blocks::from([pair("192.0.2.1", "a.example"), pair("2001:db8::1", "*")]);
    assert_eq!(bench.reader().blocks(), Ok(both));
    assert_eq!(
        bench.commit(block("192.0.2.1", "a.example", false)),
        Receipt::Done
    );
    let one = Blocks::from([pair("2001:db8::1", "*")]);
    assert_eq!(bench.reader().blocks(), Ok(one.clone()));
    // The rest of the queue is another matter.
    bench.submit(1, 1);
    bench.settle(vec![done(id(1, 1))]);
    assert_eq!(bench.reader().blocks(), Ok(one));
}

fn corrupt(number: u32) -> Transition {
    Transition::Corrupt {
        message: message(number),
        reason: "it looked odd".into(),
        at: Timestamp::from_secs(1_700_000_500),
    }
}

fn the_corrupt_bucket_holds_whole_messages<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 2);
    bench.submit(2, 1);
    let before = bench.books();
    bench.refused(corrupt(3), Refusal::Unknown);
    let moved = bench.commit(corrupt(1));
    assert_eq!(moved, Receipt::Affected(vec![id(1, 1), id(1, 2)]));
    bench.refused(corrupt(1), Refusal::Unknown);
    let books = bench.books();
    let [entry] = &books.corrupt[..] else {
        panic!("one message was set aside: {:?}", books.corrupt);
    };
    assert_eq!((entry.message, entry.envelopes), (message(1), 2));
    assert_eq!(&*entry.reason, "it looked odd");
    assert_eq!(entry.at, Timestamp::from_secs(1_700_000_500));
    assert_eq!(bench.queued(), [id(2, 1)]);
    let reader = bench.reader();
    assert_eq!(reader.envelope(id(1, 1)), Ok(None));
    assert_eq!(reader.body(message(1), 0), Ok(None));
    let epoch = Epoch::of(message(1));
    assert_eq!(reader.live(epoch), Ok(vec![message(1)]));
    // Outcomes of attempts that ran meanwhile change nothing.
    assert_eq!(bench.settle(vec![done(id(1, 1))]), Receipt::Done);
    bench.refused(Transition::Uncorrupt(message(2)), Refusal::Unknown);
    assert_eq!(
        bench.commit(Transition::Uncorrupt(message(1))),
        Receipt::Done
    );
    assert_eq!(bench.books(), before);
}

fn pages_show_every_envelope_once<P: Place>(bench: &mut Bench<P>) {
    (1..=5).for_each(|number| bench.submit(number, 3));
    let ids = |selector, after, limit| {
        let page = bench.reader().page(selector, after, limit);
        let page = page.expect("nothing is damaged").into_iter();
        page.map(|entry| entry.expect("nothing is damaged").id)
            .collect::<Vec<_>>()
    };
    let mut ids = ids;
    assert_eq!(ids(Selector::All, None, 2), [id(1, 1), id(1, 2)]);
    assert_eq!(ids(Selector::All, Some(id(1, 2)), 2), [id(1, 3), id(2, 1)]);
    let message = Selector::Message(message(2));
    assert_eq!(ids(message, None, 9), [id(2, 1), id(2, 2), id(2, 3)]);
    assert_eq!(ids(message, Some(id(1, 3)), 1), [id(2, 1)]);
    assert_eq!(ids(message, Some(id(2, 2)), 9), [id(2, 3)]);
    assert_eq!(ids(message, Some(id(2, 3)), 9), []);
    assert_eq!(ids(message, Some(id(5, 1)), 9), []);
    let one = Selector::Envelope(id(3, 2));
    assert_eq!(ids(one, None, 9), [id(3, 2)]);
    assert_eq!(ids(one, Some(id(3, 2)), 9), []);
    // The place to go on from need not exist any more.
    assert_eq!(ids(Selector::All, Some(id(4, 99)), 1), [id(5, 1)]);
    // What exists all the time is shown once, whatever comes and goes between two pages.
    let mut seen = Vec::new();
    let mut after = None;
    for round in 0.. {
        let reader = bench.reader();
        let page = reader
            .page(Selector::All, after, 4)
            .expect("nothing is damaged");
        let Some(Ok(last)) = page.last() else { break };
        after = Some(last.id);
        seen.extend(page.iter().flatten().map(|envelope| envelope.id));
        if round < 3 {
            bench.submit(10 + round, 1);
            bench.settle(vec![done(seen[0])]);
        }
    }
    for number in 1..=5 {
        for low in 1..=3 {
            let times = seen.iter().filter(|seen| **seen == id(number, low)).count();
            assert_eq!(times, 1, "{}", id(number, low));
        }
    }
}

fn time(number: u64) -> Timestamp {
    Timestamp::from_secs(1_700_000_600 + number)
}

fn discard(selector: Selector, number: u64) -> Transition {
    Transition::Discard {
        span: Span::all(selector),
        at: time(number),
    }
}

fn restore(selector: Selector) -> Transition {
    Transition::Restore {
        span: Span::all(selector),
        at: None,
    }
}

fn purge(number: u64) -> Transition {
    Transition::Purge {
        span: Span::all(Selector::All),
        until: time(number),
    }
}

fn what_is_discarded_comes_back_as_it_was<P: Place>(bench: &mut Bench<P>) {
    (1..=3).for_each(|number| bench.submit(number, 2));
    bench.settle(vec![retry(id(1, 2), Some(time(0)))]);
    bench.commit(Transition::Suspend {
        selector: Selector::Message(message(2)),
        suspended: true,
    });
    let before = bench.books();
    let one = bench.commit(discard(Selector::Envelope(id(1, 2)), 1));
    assert_eq!(one, Receipt::Affected(vec![id(1, 2)]));
    let again = bench.commit(discard(Selector::Envelope(id(1, 2)), 2));
    assert_eq!(again, Receipt::Affected(vec![]), "it is there already");
    // Step by step, each behind the last one of the step before.
    let step = |after| Transition::Discard {
        span: Span {
            selector: Selector::All,
            after,
            most: 2,
        },
        at: time(3),
    };
    let first = bench.commit(step(None));
    assert_eq!(first, Receipt::Affected(vec![id(1, 1), id(2, 1)]));
    let second = bench.commit(step(Some(id(2, 1))));
    assert_eq!(second, Receipt::Affected(vec![id(2, 2), id(3, 1)]));
    assert_eq!(bench.queued(), [id(3, 2)]);
    let reader = bench.reader();
    assert_eq!(reader.exists(message(1)), Ok(true));
    assert_eq!(
        books::body(&reader, message(1))
            .expect("it can be read")
            .len(),
        700
    );
    let state = reader.trash().expect("nothing is damaged");
    assert_eq!((state.envelopes, state.oldest), (5, Some(time(1))));
    assert_eq!(state.latest, Some(time(3)));
    assert!(state.octets >= 1400, "two messages are in the trash whole");
    // Their ids stay taken, and no verb but their own reaches them.
    bench.refused(submit(1, 1), Refusal::Exists);
    let resumed = bench.commit(Transition::Suspend {
        selector: Selector::All,
        suspended: false,
    });
    assert_eq!(resumed, Receipt::Affected(vec![]));
    let last = bench.commit(Transition::Restore {
        span: Span::all(Selector::All),
        at: Some(time(3)),
    });
    let want = vec![id(1, 1), id(2, 1), id(2, 2), id(3, 1)];
    assert_eq!(last, Receipt::Affected(want));
    let rest = bench.commit(restore(Selector::Message(message(1))));
    assert_eq!(rest, Receipt::Affected(vec![id(1, 2)]));
    assert_eq!(bench.books(), before);
}

fn the_trash_is_emptied_by_age_and_by_name<P: Place>(bench: &mut Bench<P>) {
    (1..=4).for_each(|number| bench.submit(number, 2));
    bench.commit(discard(Selector::Message(message(1)), 1));
    bench.commit(discard(Selector::Envelope(id(2, 1)), 2));
    bench.commit(discard(Selector::Message(message(3)), 3));
    assert_eq!(bench.commit(purge(0)), Receipt::Affected(vec![]));
    let old = bench.commit(purge(2));
    assert_eq!(old, Receipt::Affected(vec![id(1, 1), id(1, 2), id(2, 1)]));
    assert_eq!(bench.reader().exists(message(1)), Ok(false));
    assert_eq!(bench.queued(), [id(2, 2), id(4, 1), id(4, 2)]);
    // `all` means the queue, an id means the envelope wherever it is.
    let all = bench.commit(Transition::Remove(Selector::All));
    let want = vec![id(2, 2), id(4, 1), id(4, 2)];
    assert_eq!(all, Receipt::Affected(want));
    assert_eq!(bench.books().trash.len(), 2);
    let one = bench.commit(Transition::Remove(Selector::Envelope(id(3, 1))));
    assert_eq!(one, Receipt::Affected(vec![id(3, 1)]));
    let rest = bench.commit(Transition::Remove(Selector::Message(message(3))));
    assert_eq!(rest, Receipt::Affected(vec![id(3, 2)]));
    assert!(bench.books().is_empty());
    bench.submit(3, 1);
}

fn what_comes_twice_in_one_call_is_there<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 1);
    let settled = bench.settle(vec![bounced(id(1, 1), 6), bounced(id(1, 6), 6)]);
    assert_eq!(settled, Receipt::Done);
    assert_eq!(bench.queued(), [id(1, 6)]);
    bench.reopen();
    assert_eq!(bench.queued(), [id(1, 6)]);
}

fn settlements_reach_into_the_trash<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 3);
    bench.commit(discard(Selector::Message(message(1)), 1));
    let before = bench.books();
    assert_eq!(bench.settle(vec![retry(id(1, 1), None)]), Receipt::Done);
    assert_eq!(bench.books(), before, "it comes back as it was");
    // The attempt that was running has delivered it, or told the sender: it must not come back.
    assert_eq!(bench.settle(vec![bounced(id(1, 1), 9)]), Receipt::Done);
    assert_eq!(bench.books().trash.len(), 2);
    assert_eq!(bench.queued(), []);
    // The id of an envelope in the trash is in use.
    let back = bench.commit(restore(Selector::Envelope(id(1, 3))));
    assert_eq!(back, Receipt::Affected(vec![id(1, 3)]));
    let clash = Transition::Settle(vec![bounced(id(1, 3), 2)]);
    bench.refused(clash, Refusal::Exists);
    bench.settle(vec![done(id(1, 2)), done(id(1, 3))]);
    assert!(bench.books().is_empty());
}

fn a_message_is_set_aside_with_what_is_in_the_trash<P: Place>(bench: &mut Bench<P>) {
    bench.submit(1, 3);
    bench.submit(2, 1);
    bench.commit(discard(Selector::Envelope(id(1, 2)), 1));
    let before = bench.books();
    let moved = bench.commit(corrupt(1));
    let all = vec![id(1, 1), id(1, 2), id(1, 3)];
    assert_eq!(moved, Receipt::Affected(all.clone()));
    assert_eq!(bench.books().corrupt[0].envelopes, 3);
    for transition in [restore(Selector::All), purge(9)] {
        assert_eq!(bench.commit(transition), Receipt::Affected(vec![]));
    }
    let back = bench.commit(Transition::Uncorrupt(message(1)));
    assert_eq!(back, Receipt::Done);
    assert_eq!(bench.books(), before);
    // Discarding what is in the bucket removes it.
    bench.commit(corrupt(1));
    let gone = bench.commit(discard(Selector::Message(message(1)), 2));
    assert_eq!(gone, Receipt::Affected(all));
    assert_eq!(bench.queued(), [id(2, 1)]);
    assert_eq!(bench.reader().exists(message(1)), Ok(false));
}
