//! Certificates that TLSA records name, and those they do not.

use super::*;
use crate::tls::provider;
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose,
    IsCa, KeyPair, date_time_ymd,
};
use rustls_pki_types::pem::PemObject as _;

const HOST: &str = "mx.example.org";

/// A server's certificate, and what signed it.
struct Chain {
    leaf: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    key: Vec<u8>,
    authority_key: Vec<u8>,
}

/// The public key as a certificate holds it, read by other means than those under test.
fn spki(key: &KeyPair) -> Vec<u8> {
    rustls_pki_types::SubjectPublicKeyInfoDer::from_pem_slice(key.public_key_pem().as_bytes())
        .unwrap()
        .to_vec()
}

fn chain(names: &[&str], expired: bool) -> Chain {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority_key = spki(&key);
    let authority = CertifiedIssuer::self_signed(params, key).unwrap();
    let key = KeyPair::generate().unwrap();
    let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    if expired {
        params.not_before = date_time_ymd(2001, 1, 1);
        params.not_after = date_time_ymd(2002, 1, 1);
    }
    let leaf: Certificate = params.signed_by(&key, &authority).unwrap();
    Chain {
        leaf: leaf.der().clone(),
        authority: authority.as_ref().der().clone(),
        key: spki(&key),
        authority_key,
    }
}

fn record(usage: u8, selector: u8, matching: u8, part: &[u8]) -> Tlsa {
    let data = match matching {
        1 => digest(&SHA256, part).as_ref().into(),
        2 => digest(&SHA512, part).as_ref().into(),
        _ => part.into(),
    };
    Tlsa {
        usage,
        selector,
        matching,
        data,
    }
}

fn judged(
    records: Vec<Tlsa>,
    names: &[&'static str],
    chain: &Chain,
    shown: bool,
) -> Result<(), String> {
    let judge = Judge {
        provider: provider(),
        records,
        names: names
            .iter()
            .map(|name| ServerName::try_from(*name).unwrap())
            .collect(),
    };
    let rest: Vec<_> = shown.then(|| chain.authority.clone()).into_iter().collect();
    let name = ServerName::try_from(HOST).unwrap();
    judge
        .verify_server_cert(&chain.leaf, &rest, &name, &[], UnixTime::now())
        .map(|_| ())
        .map_err(|error| error.to_string())
}

#[test]
fn records_of_the_server_match_its_certificate_or_key() {
    // Neither its name nor its dates count.
    let (ours, other) = (chain(&["elsewhere.example"], true), chain(&[HOST], false));
    for matching in [0, 1, 2] {
        for (selector, right, wrong) in
            [(0, &*ours.leaf, &*other.leaf), (1, &*ours.key, &*other.key)]
        {
            let match_it =
                |part| judged(vec![record(3, selector, matching, part)], &[], &ours, true);
            assert_eq!(match_it(right), Ok(()), "3 {selector} {matching}");
            let why = match_it(wrong).unwrap_err();
            assert!(why.contains("matches no TLSA record"), "{why}");
        }
    }
}

#[test]
fn one_of_several_records_is_enough() {
    let (ours, other) = (chain(&[HOST], false), chain(&[HOST], false));
    let records = vec![
        record(3, 1, 1, &other.key),
        record(2, 0, 1, &other.authority),
        record(3, 1, 1, &ours.key),
    ];
    assert_eq!(judged(records, &[], &ours, true), Ok(()));
}

#[test]
fn records_of_an_authority_match_what_it_signed() {
    let (ours, other) = (chain(&[HOST], false), chain(&[HOST], false));
    for matching in [0, 1, 2] {
        let parts = [
            (0, &*ours.authority, &*other.authority),
            (1, &*ours.authority_key, &*other.authority_key),
        ];
        for (selector, right, wrong) in parts {
            let match_it =
                |part| judged(vec![record(2, selector, matching, part)], &[], &ours, true);
            assert_eq!(match_it(right), Ok(()), "2 {selector} {matching}");
            assert!(match_it(wrong).is_err(), "2 {selector} {matching}");
        }
    }
}

#[test]
fn an_authority_that_is_not_shown_must_be_in_the_record() {
    let ours = chain(&[HOST], false);
    let whole = vec![record(2, 0, 0, &ours.authority)];
    assert_eq!(judged(whole, &[], &ours, false), Ok(()));
    let digest_of_it = vec![record(2, 0, 1, &ours.authority)];
    assert!(judged(digest_of_it, &[], &ours, false).is_err());
}

#[test]
fn an_authority_shown_beside_a_strangers_certificate_proves_nothing() {
    let (ours, other) = (chain(&[HOST], false), chain(&[HOST], false));
    let forged = Chain {
        leaf: other.leaf,
        ..ours
    };
    let records = vec![record(2, 1, 1, &forged.authority_key)];
    let why = judged(records, &[], &forged, true).unwrap_err();
    assert!(why.contains("not of the authority"), "{why}");
}

#[test]
fn what_an_authority_signed_must_be_for_the_host_or_its_domain() {
    let judge = |named: &str, expired, names: &[&'static str]| {
        let ours = chain(&[named], expired);
        judged(
            vec![record(2, 1, 1, &ours.authority_key)],
            names,
            &ours,
            true,
        )
    };
    assert_eq!(judge(HOST, false, &[]), Ok(()));
    assert_eq!(judge("example.org", false, &["example.org"]), Ok(()));
    let why = judge("elsewhere.example", false, &["example.org"]).unwrap_err();
    assert!(why.contains("other names"), "{why}");
    let why = judge(HOST, true, &[]).unwrap_err();
    assert!(why.contains("xpired"), "{why}");
}

#[test]
fn a_certificate_for_the_authoritys_record_is_no_server() {
    // DANE-TA names who signs, not who serves.
    let ours = chain(&[HOST], false);
    assert!(judged(vec![record(2, 0, 1, &ours.leaf)], &[], &ours, true).is_err());
}
