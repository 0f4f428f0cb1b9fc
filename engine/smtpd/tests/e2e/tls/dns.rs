//! A DNS server that signs what it says of `test.`, but for `plain.test.`, and fails when told to.

use hickory_server::Server;
use hickory_server::dnssec::NxProofKind;
use hickory_server::net::runtime::Time;
use hickory_server::proto::dnssec::crypto::EcdsaSigningKey;
use hickory_server::proto::dnssec::rdata::DNSKEY;
use hickory_server::proto::dnssec::{Algorithm, DnssecSigner, SigningKey as _};
use hickory_server::proto::op::ResponseCode;
use hickory_server::proto::rr::rdata::{A, MX, NS, SOA, TLSA};
use hickory_server::proto::rr::{LowerName, Name, RData, Record, RecordType, RrKey};
use hickory_server::server::{Request, RequestHandler, ResponseHandler, ResponseInfo};
use hickory_server::store::in_memory::InMemoryZoneHandler;
use hickory_server::zone_handler::{AxfrPolicy, Catalog, MessageResponseBuilder, ZoneType};
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::str::FromStr as _;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

/// A zone nobody signs, below the one that is signed.
const PLAIN: &str = "plain.test.";

/// How the exchanger's TLSA records come to be.
pub(super) enum Publish {
    /// Signed.
    Signed(Vec<TLSA>),
    /// Put in after all was signed, as a forger would.
    Forged(TLSA),
}

/// What the server says beside that `far.test` has the exchanger `mx.test`, which is here. Names
/// below `plain.test` are not signed.
#[derive(Default)]
pub(super) struct Sayings {
    pub records: Vec<(String, RData)>,
    /// Put in after all was signed; what was there keeps the signature it had.
    pub forged: Vec<(String, RData)>,
    /// Whose TLSA records cannot be asked for: SERVFAIL.
    pub failing: &'static str,
}

/// The running server.
pub(super) struct Dns {
    pub address: SocketAddr,
    /// The zone's key, as a line of a file.
    pub anchor: String,
    asked: Arc<Mutex<Vec<String>>>,
    _server: Server<Desk>,
    _runtime: Runtime,
}

/// Answers from the zone a question belongs to.
struct Desk {
    signed: Catalog,
    plain: Catalog,
    failing: Option<LowerName>,
    /// Names whose TLSA records were asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

fn name(text: &str) -> Name {
    Name::from_str(text).unwrap()
}

pub(super) fn here() -> RData {
    RData::A(A(Ipv4Addr::LOCALHOST))
}

pub(super) fn exchanger(preference: u16, host: &str) -> RData {
    RData::MX(MX::new(preference, name(host)))
}

fn put(zone: &mut InMemoryZoneHandler, owner: &str, data: RData) {
    assert!(zone.upsert_mut(Record::from_rdata(name(owner), 60, data), 1));
}

fn empty(origin: &str) -> InMemoryZoneHandler {
    let (kind, transfer) = (ZoneType::Primary, AxfrPolicy::Deny);
    let proof = (origin != PLAIN).then_some(NxProofKind::Nsec);
    let mut zone = InMemoryZoneHandler::empty(name(origin), kind, transfer, proof);
    let ns = name("ns.test.");
    let soa = SOA::new(ns.clone(), name("admin.test."), 1, 3600, 600, 86400, 60);
    put(&mut zone, origin, RData::SOA(soa));
    put(&mut zone, origin, RData::NS(NS(ns)));
    zone
}

/// Puts a record in, and the signature back that was there before.
fn forge(zone: &mut InMemoryZoneHandler, owner: &str, data: RData) {
    let key = RrKey::new(LowerName::new(&name(owner)), data.record_type());
    let before = zone.records_get_mut().get(&key).cloned();
    put(zone, owner, data);
    let signatures = before.map(|set| Arc::unwrap_or_clone(set).into_parts().rrsigs);
    let set = zone.records_get_mut().get_mut(&key).unwrap();
    for signature in signatures.into_iter().flatten() {
        Arc::make_mut(set).insert_rrsig(signature);
    }
}

/// The signed zone, the one that is not, and the line that makes the key of the first trusted.
fn zones(sayings: Sayings) -> (InMemoryZoneHandler, InMemoryZoneHandler, String) {
    let (mut signed, mut plain) = (empty("test."), empty(PLAIN));
    put(&mut signed, "ns.test.", here());
    put(&mut signed, PLAIN, RData::NS(NS(name("ns.test."))));
    put(&mut signed, "far.test.", exchanger(10, "mx.test."));
    put(&mut signed, "mx.test.", here());
    for (owner, data) in sayings.records {
        let below = name(PLAIN).zone_of(&name(&owner));
        let zone = if below { &mut plain } else { &mut signed };
        put(zone, &owner, data);
    }
    let algorithm = Algorithm::ECDSAP256SHA256;
    let key = EcdsaSigningKey::generate_pkcs8(algorithm).unwrap();
    let key = EcdsaSigningKey::from_pkcs8(&key, algorithm).unwrap();
    let dnskey = DNSKEY::from_key(&key.to_public_key().unwrap());
    let anchor = format!("test. 3600 IN DNSKEY {dnskey}\n");
    let hour = Duration::from_hours(1);
    let signer = DnssecSigner::new(dnskey, Box::new(key), name("test."), hour);
    signed.add_zone_signing_key_mut(signer).unwrap();
    signed.secure_zone_mut().unwrap();
    for (owner, data) in sayings.forged {
        forge(&mut signed, &owner, data);
    }
    (signed, plain, anchor)
}

impl Dns {
    /// A server with TLSA records of `mx.test` and this port.
    pub(super) fn start(port: u16, publish: Publish, more: &[(&str, RData)]) -> Self {
        let owner = format!("_{port}._tcp.mx.test.");
        let more = more.iter();
        let mut sayings = Sayings {
            records: more
                .map(|(owner, data)| (String::from(*owner), data.clone()))
                .collect(),
            ..Sayings::default()
        };
        let record = |record| (owner.clone(), RData::TLSA(record));
        match publish {
            Publish::Signed(records) => sayings.records.extend(records.into_iter().map(record)),
            Publish::Forged(forged) => sayings.forged.push(record(forged)),
        }
        Self::saying(sayings)
    }

    pub(super) fn saying(sayings: Sayings) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let asked = Arc::default();
        let failing = (!sayings.failing.is_empty()).then(|| name(sayings.failing).into());
        let (signed, plain, anchor) = zones(sayings);
        let of = |origin, zone| {
            let mut catalog = Catalog::new();
            catalog.upsert(LowerName::new(&name(origin)), vec![Arc::new(zone)]);
            catalog
        };
        let desk = Desk {
            signed: of("test.", signed),
            plain: of(PLAIN, plain),
            failing,
            asked: Arc::clone(&asked),
        };
        let (server, address) = runtime.block_on(async {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
            let address = socket.local_addr().unwrap();
            let mut server = Server::new(desk);
            server.register_socket(socket);
            (server, address)
        });
        Self {
            address,
            anchor,
            asked,
            _server: server,
            _runtime: runtime,
        }
    }

    /// The names whose TLSA records were asked for so far, each once.
    pub(super) fn asked(&self) -> Vec<String> {
        let mut names = self.asked.lock().unwrap().clone();
        names.dedup();
        names
    }
}

impl Desk {
    async fn answer<R: ResponseHandler, T: Time>(
        &self,
        request: &Request,
        mut response: R,
    ) -> ResponseInfo {
        let asked = request.request_info().unwrap().query;
        let (owner, kind) = (asked.name().clone(), asked.query_type());
        if kind == RecordType::TLSA {
            self.asked.lock().unwrap().push(owner.to_string());
            let fails = |name: &LowerName| name.zone_of(&owner);
            if self.failing.as_ref().is_some_and(fails) {
                let failure = MessageResponseBuilder::from_message_request(request)
                    .error_msg(&request.metadata, ResponseCode::ServFail);
                return response.send_response(failure).await.unwrap();
            }
        }
        // Whether a zone is signed is for the one above it to say.
        let below = LowerName::new(&name(PLAIN)).zone_of(&owner) && kind != RecordType::DS;
        let zone = if below { &self.plain } else { &self.signed };
        zone.handle_request::<R, T>(request, response).await
    }
}

impl RequestHandler for Desk {
    fn handle_request<'s, 'r, 'f, R, T>(
        &'s self,
        request: &'r Request,
        response: R,
    ) -> Pin<Box<dyn Future<Output = ResponseInfo> + Send + 'f>>
    where
        R: ResponseHandler + 'f,
        T: Time + 'f,
        's: 'f,
        'r: 'f,
        Self: 'f,
    {
        Box::pin(self.answer::<R, T>(request, response))
    }
}
