//! Authentication: finds the caller by the key that it presents, its connection's certificate, or both.

use std::time::SystemTime;

use hyper::header::{AUTHORIZATION, HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use hyper::http::request::Parts;

use super::exchange::Exchange;
use super::peer::Peer;
use super::presented_key::PresentedKey;
use super::rejection::Rejection;
use super::worker::Proxy;
use crate::net::site;
use crate::tenant::caller::{Caller, KeyHolder, RefusedCredential, identify, sidecar_caller};
use crate::tenant::key::VirtualKey;
use crate::tenant::keyring::Keyring;

impl Proxy {
    /// Finds the caller.
    ///
    /// # Errors
    /// `NoKey`, `UnknownKey`, `ExpiredKey`, `RevokedKey`, `NoCertificate`, `OtherCertificate`, `ForeignOrigin`,
    /// `Address`.
    pub(super) fn identify(
        &self,
        peer: &Peer,
        exchange: &Exchange,
        request: &Parts,
        now: SystemTime,
    ) -> Result<Caller, RefusedCaller> {
        let directory = exchange.directory();
        let key = exchange.route().key.and_then(|key| key.of(&request.headers));
        match sidecar_caller(directory) {
            Some(caller) => sidecar(caller, request, peer),
            None => by_credential(exchange, &self.shared.keyring, key, request, peer, now),
        }
    }

    /// The refusal of a caller, which is counted against the client's address; `AuthRate` after too many of them. Callers
    /// with a valid key are not held up by it, so clients that share an address with a guesser, behind one NAT, notice
    /// nothing.
    pub(super) fn refuse_caller(
        &self,
        RefusedCaller { rejection, holder }: RefusedCaller,
        exchange: &Exchange,
    ) -> Rejection {
        if let Some(holder) = holder {
            exchange.enter_holder(*holder);
        }
        let per_second = exchange.directory().settings.server.auth_failures_per_second;
        let counted = self.shared.auth_failures.failed(exchange.client.ip, per_second);
        counted.map_or_else(Rejection::AuthRate, |()| rejection)
    }
}

/// A caller that is not let in, and who it is, as far as that is known.
pub(super) struct RefusedCaller {
    rejection: Rejection,
    /// On the heap, so that the `Ok` of every call stays small.
    holder: Option<Box<KeyHolder>>,
}

/// In the sidecar every caller on the same host is the tenant, with any key or none; but not a web page of another site
/// in a browser on this host.
fn sidecar(caller: Caller, request: &Parts, peer: &Peer) -> Result<Caller, RefusedCaller> {
    if !peer.address.ip().is_loopback() {
        return Err(Rejection::UnknownKey.into());
    }
    let is_foreign = called_host(request).is_some_and(site::may_be_rebound);
    if is_foreign || is_of_foreign_page(&request.headers, site::is_this_machine) {
        let who = "this gateway takes calls of this machine alone: call http://localhost or http://127.0.0.1";
        return Err(Rejection::ForeignOrigin(who).into());
    }
    Ok(caller)
}

/// Finds the caller by its key, its certificate, or both. A browser shows the certificate for every web page, so a call
/// by certificate alone is not taken from a page of another site.
fn by_credential(
    exchange: &Exchange,
    keyring: &Keyring,
    key: Option<VirtualKey<'_>>,
    request: &Parts,
    peer: &Peer,
    now: SystemTime,
) -> Result<Caller, RefusedCaller> {
    let found = identify(exchange.directory(), keyring, key, peer.certificate.as_ref(), now);
    let caller = found.map_err(|RefusedCredential { fault, holder }| {
        // The client gets one message for every invalid key; the log tells the operator more.
        let key_id = holder.as_ref().map(KeyHolder::key_id);
        tracing::debug!(stranger = ?fault, key_id, address = %exchange.client, "a key opens nothing");
        RefusedCaller { rejection: fault.into(), holder: holder.map(Box::new) }
    })?;
    let mut caller = caller.ok_or_else(|| no_key(&request.headers))?;
    let host = called_host(request).and_then(site::host);
    let is_own =
        |site: &[u8]| site::host(site).zip(host).is_some_and(|(one, other)| one.eq_ignore_ascii_case(other));
    if caller.is_keyless() && is_of_foreign_page(&request.headers, is_own) {
        let who = "a call without a key is taken from pages of this gateway's own host alone: send a key";
        let holder = Some(Box::new(KeyHolder::Caller(caller)));
        return Err(RefusedCaller { rejection: Rejection::ForeignOrigin(who), holder });
    }
    let is_foreign = |origin: &HeaderValue| {
        let cors = &exchange.route().mount(exchange.directory()).cors;
        !cors.allows(origin.as_bytes()) && !site::of_origin(origin.as_bytes()).is_some_and(is_own)
    };
    let is_of_foreign_page = exchange.route().key.is_some_and(PresentedKey::is_of_page)
        && request.headers.get_all(ORIGIN).iter().any(is_foreign);
    let is_of_other_page = caller.page().is_some_and(|page| !is_of_page(&request.headers, page, host));
    if is_of_foreign_page || is_of_other_page {
        let holder = Some(Box::new(KeyHolder::Caller(caller)));
        return Err(RefusedCaller { rejection: Rejection::ForeignPage, holder });
    }
    if !caller.may_call_from(exchange.client.ip) {
        let holder = Some(Box::new(KeyHolder::Caller(caller)));
        return Err(RefusedCaller { rejection: Rejection::Address, holder });
    }
    caller.note_use(now);
    Ok(caller)
}

impl RefusedCaller {
    /// True if nobody has the key that the caller shows.
    pub(super) fn is_of_unknown_key(&self) -> bool {
        matches!(self.rejection, Rejection::UnknownKey) && self.holder.is_none()
    }
}

impl From<Rejection> for RefusedCaller {
    fn from(rejection: Rejection) -> Self {
        Self { rejection, holder: None }
    }
}

fn no_key(headers: &HeaderMap) -> Rejection {
    let has_authorization = headers.get(AUTHORIZATION).is_some_and(|value| !value.is_empty());
    Rejection::NoKey { has_authorization }
}

/// Host and port that the client called; `route` has checked that there is one answer.
fn called_host(request: &Parts) -> Option<&[u8]> {
    let authority = request.uri.authority().map(|authority| authority.as_str().as_bytes());
    authority.or_else(|| request.headers.get(HOST).map(HeaderValue::as_bytes))
}

/// True if a browser says that the call comes from a page of a site that is not `is_own`. Programs send none of these
/// fields, or their own host.
fn is_of_foreign_page(headers: &HeaderMap, is_own: impl Fn(&[u8]) -> bool) -> bool {
    let is_foreign = |origin: &HeaderValue| !site::of_origin(origin.as_bytes()).is_some_and(&is_own);
    let is_cross_site = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"cross-site");
    headers.get_all(ORIGIN).iter().any(is_foreign)
        || headers.get_all(SEC_FETCH_SITE).iter().any(is_cross_site)
}

/// True if a browser says that the call comes from a page of this origin. Browsers leave `Origin` out of a plain GET to
/// the page's own host (WHATWG Fetch, 3.2).
fn is_of_page(headers: &HeaderMap, page: &str, called: Option<&[u8]>) -> bool {
    let mut origins = headers.get_all(ORIGIN).iter().peekable();
    if origins.peek().is_some() {
        return origins.all(|origin| origin.as_bytes() == page.as_bytes());
    }
    let is_same_origin = |value: &HeaderValue| value.as_bytes().eq_ignore_ascii_case(b"same-origin");
    headers.get(SEC_FETCH_SITE).is_some_and(is_same_origin)
        && site::of_origin(page.as_bytes()).and_then(site::host) == called
}

/// Set by browsers alone; a page can't change it (W3C Fetch Metadata, 2.3).
const SEC_FETCH_SITE: HeaderName = HeaderName::from_static("sec-fetch-site");
