//! From the bytes of a question to those of its answer, or to what must be asked elsewhere. No sockets, no clock.

use std::net::IpAddr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

use super::names::{Entry, Names, ZONE};

/// Services come and go: nobody remembers an answer for long.
const TTL_SECONDS: u32 = 5;
/// What fits into every packet without EDNS.
const PLAIN_BYTES: usize = 512;
/// What fits into a packet that no link cuts into pieces.
const UNCUT_BYTES: usize = 1_232;
const HEADER_BYTES: usize = 12;
/// Services that are other names of services, one after the other.
const MAX_ALIASES: usize = 8;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    Udp,
    Tcp,
}

#[derive(Debug)]
pub(crate) enum Outcome {
    Reply(Vec<u8>),
    /// Not for us: the question goes to the machine's resolvers as it is.
    Forward,
    /// Our part of the answer, which ends with a name that somebody else knows.
    Complete(Box<Partial>),
    /// Nothing that one can answer.
    Drop,
}

#[derive(Debug)]
pub(crate) struct Partial {
    response: Message,
    limit: usize,
    /// What to ask for.
    pub(crate) question: Vec<u8>,
}

pub(crate) fn answer(names: &Names, bytes: &[u8], transport: Transport) -> Outcome {
    let request = match Message::from_vec(bytes) {
        Ok(request) if request.metadata.message_type == MessageType::Query => request,
        Ok(_) => return Outcome::Drop,
        Err(_) => return unreadable(bytes),
    };
    let mut response = response_to(&request);
    let limit = limit(&request, transport);
    let refuse = |mut response: Message, code| {
        response.metadata.response_code = code;
        Outcome::Reply(packed(&response, limit))
    };
    if request.metadata.op_code != OpCode::Query {
        return refuse(response, ResponseCode::NotImp);
    }
    let [question] = &request.queries[..] else { return refuse(response, ResponseCode::FormErr) };
    if request.edns.as_ref().is_some_and(|edns| edns.version() > 0) {
        return refuse(response, ResponseCode::BADVERS);
    }
    let name = text(question.name());
    if !names.is_ours(&name) {
        return Outcome::Forward;
    }
    let transfers = matches!(question.query_type(), RecordType::AXFR | RecordType::IXFR);
    if transfers || question.query_class() != DNSClass::IN {
        return refuse(response, ResponseCode::Refused);
    }
    response.metadata.authoritative = true;
    match fill(names, question, &mut response) {
        Some(elsewhere) => complete_by(elsewhere, question.query_type(), response, limit),
        None => Outcome::Reply(packed(&response, limit)),
    }
}

/// That nobody could be asked.
pub(crate) fn failure(bytes: &[u8]) -> Option<Vec<u8>> {
    let mut response = response_to(&Message::from_vec(bytes).ok()?);
    response.metadata.response_code = ResponseCode::ServFail;
    Some(packed(&response, PLAIN_BYTES))
}

/// Joins our part with what somebody else said of the rest.
pub(crate) fn completed(mut partial: Partial, elsewhere: Option<&[u8]>) -> Vec<u8> {
    match elsewhere.and_then(|bytes| Message::from_vec(bytes).ok()) {
        Some(other) => partial.response.answers.extend(other.answers),
        None => partial.response.metadata.response_code = ResponseCode::ServFail,
    }
    packed(&partial.response, partial.limit)
}

/// Puts in what we know of the question. The name at the end, where that is not ours to explain.
fn fill(names: &Names, question: &Query, response: &mut Message) -> Option<Name> {
    let (mut name, kind) = (question.name().clone(), question.query_type());
    for _ in 0..MAX_ALIASES {
        let Some(entry) = names.get(&text(&name)) else {
            if response.answers.is_empty() {
                response.metadata.response_code = ResponseCode::NXDomain;
            }
            break;
        };
        let Some(alias) = entry.alias.as_ref().and_then(|alias| absolute(alias)) else {
            let number = usize::from(response.metadata.id);
            response.answers.extend(records(&name, &entry, kind, number));
            add_addresses(names, response);
            break;
        };
        response.answers.push(Record::from_rdata(name, TTL_SECONDS, RData::CNAME(CNAME(alias.clone()))));
        if kind == RecordType::CNAME {
            break;
        }
        if !names.is_ours(&text(&alias)) {
            return Some(alias);
        }
        name = alias;
    }
    if response.answers.is_empty() {
        response.authorities.extend(authority());
    }
    None
}

/// `turn` says which address comes first, so that clients who take the first share the work.
fn records(name: &Name, entry: &Entry, kind: RecordType, turn: usize) -> Vec<Record> {
    let is = |wanted| kind == wanted || kind == RecordType::ANY;
    let mut data: Vec<RData> = Vec::new();
    for address in &entry.addresses {
        match address {
            IpAddr::V4(v4) if is(RecordType::A) => data.push(RData::A(A(*v4))),
            IpAddr::V6(v6) if is(RecordType::AAAA) => data.push(RData::AAAA(AAAA(*v6))),
            _ => {}
        }
    }
    if !data.is_empty() {
        let turn = turn % data.len();
        data.rotate_left(turn);
    }
    if is(RecordType::SRV) {
        let records = entry.services.iter();
        // Endpoints of one port share the work evenly.
        let weight = u16::try_from(100 / entry.services.len().max(1)).unwrap_or(1).max(1);
        data.extend(records.filter_map(|it| Some(RData::SRV(SRV::new(0, weight, it.port, absolute(&it.target)?)))));
    }
    if is(RecordType::PTR) {
        data.extend(entry.pointers.iter().filter_map(|it| Some(RData::PTR(PTR(absolute(it)?)))));
    }
    if is(RecordType::TXT) {
        data.extend(entry.text.iter().map(|text| RData::TXT(TXT::new(vec![text.clone()]))));
    }
    if is(RecordType::SOA) && text(name) == ZONE {
        data.extend(authority().map(|record| record.data));
    }
    data.into_iter().map(|data| Record::from_rdata(name.clone(), TTL_SECONDS, data)).collect()
}

/// Whoever asks for ports wants their addresses next.
fn add_addresses(names: &Names, response: &mut Message) {
    let mut targets: Vec<Name> = Vec::new();
    for record in &response.answers {
        if let RData::SRV(srv) = &record.data
            && !targets.contains(&srv.target)
        {
            targets.push(srv.target.clone());
        }
    }
    for target in targets {
        let Some(entry) = names.get(&text(&target)) else { continue };
        for kind in [RecordType::A, RecordType::AAAA] {
            response.additionals.extend(records(&target, &entry, kind, 0));
        }
    }
}

fn complete_by(name: Name, kind: RecordType, response: Message, limit: usize) -> Outcome {
    let mut question = Message::new(response.metadata.id, MessageType::Query, OpCode::Query);
    question.metadata.recursion_desired = true;
    question.add_query(Query::query(name, kind));
    match question.to_vec() {
        Ok(question) => Outcome::Complete(Box::new(Partial { response, limit, question })),
        Err(_) => Outcome::Drop,
    }
}

fn response_to(request: &Message) -> Message {
    let mut response = Message::response(request.metadata.id, request.metadata.op_code);
    response.metadata.recursion_desired = request.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.add_queries(request.queries.iter().take(1).cloned());
    if request.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(u16::try_from(UNCUT_BYTES).expect("a small number"));
        response.set_edns(edns);
    }
    response
}

fn limit(request: &Message, transport: Transport) -> usize {
    match (transport, &request.edns) {
        (Transport::Tcp, _) => usize::from(u16::MAX),
        (Transport::Udp, Some(edns)) => usize::from(edns.max_payload()).clamp(PLAIN_BYTES, UNCUT_BYTES),
        (Transport::Udp, None) => PLAIN_BYTES,
    }
}

/// What does not fit is left out and said to be: addresses on the side silently, answers so that the client asks by TCP.
fn packed(response: &Message, limit: usize) -> Vec<u8> {
    let whole = response.to_vec().unwrap_or_default();
    if whole.len() <= limit && !whole.is_empty() {
        return whole;
    }
    let mut response = response.clone();
    response.additionals.clear();
    match response.to_vec() {
        Ok(bytes) if bytes.len() <= limit => bytes,
        _ => response.truncate().to_vec().unwrap_or_default(),
    }
}

/// A question that begins like one is told that it is none.
fn unreadable(bytes: &[u8]) -> Outcome {
    let is_answer = bytes.get(2).is_none_or(|flags| flags & 0x80 != 0);
    if bytes.len() < HEADER_BYTES || is_answer {
        return Outcome::Drop;
    }
    let id = u16::from_be_bytes([bytes[0], bytes[1]]);
    let response = Message::error_msg(id, OpCode::Query, ResponseCode::FormErr);
    response.to_vec().map_or(Outcome::Drop, Outcome::Reply)
}

/// Who says that there is nothing, and for how long that holds.
fn authority() -> Option<Record> {
    let (server, mail) = (absolute(&format!("ns.dns.{ZONE}"))?, absolute(&format!("hostmaster.{ZONE}"))?);
    let (serial, refresh, retry, expire) = (1, 7_200, 1_800, 86_400);
    let soa = SOA::new(server, mail, serial, refresh, retry, expire, TTL_SECONDS);
    Some(Record::from_rdata(absolute(ZONE)?, TTL_SECONDS, RData::SOA(soa)))
}

fn absolute(name: &str) -> Option<Name> {
    let mut name = Name::from_ascii(name).ok()?;
    name.set_fqdn(true);
    Some(name)
}

fn text(name: &Name) -> String {
    let mut text = name.to_ascii().to_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

#[cfg(test)]
mod tests;
