//! The stored form of envelopes.

use proptest::collection::vec;
use proptest::prelude::*;
use redspool_core::envelope::Envelope;
use redspool_core::queue::Scheduled;
use redspool_proptests::mail::any_envelope;

proptest! {
    #[test]
    fn every_envelope_comes_back(envelope in any_envelope()) {
        let mut octets = Vec::new();
        envelope.encode(&mut octets);
        let scheduled = Scheduled::decode(envelope.id, &octets);
        prop_assert_eq!(scheduled, Ok(Scheduled::from(&envelope)));
        prop_assert_eq!(Envelope::decode(envelope.id, &octets), Ok(envelope));
    }

    #[test]
    fn octets_that_decode_are_the_one_form_of_their_envelope(
        envelope in any_envelope(),
        place in any::<prop::sample::Index>(),
        octet in any::<u8>(),
    ) {
        let mut octets = Vec::new();
        envelope.encode(&mut octets);
        let place = place.index(octets.len());
        octets[place] = octet;
        if let Ok(other) = Envelope::decode(envelope.id, &octets) {
            let mut again = Vec::new();
            other.encode(&mut again);
            prop_assert_eq!(again, octets);
        }
    }

    #[test]
    fn arbitrary_octets_never_panic(octets in vec(any::<u8>(), 0..400), envelope in any_envelope()) {
        if let Ok(read) = Envelope::decode(envelope.id, &octets) {
            let mut again = Vec::new();
            read.encode(&mut again);
            prop_assert_eq!(again, octets);
        }
    }
}
