//! Names and validity that a certificate states. A verifier decides whether the certificate is genuine.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use der::asn1::{AnyRef, GeneralizedTime, ObjectIdentifier, UtcTime};
use der::{Decode, Reader, SliceReader, Tag};
use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Period in which a certificate is valid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    pub begins: SystemTime,
    pub ends: SystemTime,
}

/// Reads the names of a certificate as the configuration writes them: `CN=`, `O=`, `OU=` and `UID=` of the subject,
/// `dns:` and `uri:` of the alternative names. DNS names are in lower case. Empty if the certificate can't be read.
pub fn names(certificate: &CertificateDer<'_>) -> Vec<Box<str>> {
    let Ok(parsed) = EndEntityCert::try_from(certificate) else { return Vec::new() };
    let mut names = subject(parsed.subject()).unwrap_or_default();
    names.extend(parsed.valid_dns_names().map(|name| format!("dns:{}", name.to_ascii_lowercase()).into()));
    names.extend(parsed.valid_uri_names().map(|name| format!("uri:{name}").into()));
    names
}

/// True for the short names of subject attributes that [`names`] reads.
pub fn is_attribute(short: &str) -> bool {
    ATTRIBUTES.iter().any(|(_, known)| *known == short)
}

/// Reads the validity of a certificate. By RFC 5280, 4.1, the validity follows an optional version, the serial number,
/// the algorithm and the issuer.
pub fn validity(certificate: &CertificateDer<'_>) -> Option<Validity> {
    let read = || {
        let mut certificate = inside(&mut SliceReader::new(certificate)?)?;
        let mut signed = inside(&mut certificate)?;
        if signed.peek_byte() == Some(VERSION) {
            AnyRef::decode(&mut signed)?;
        }
        for _ in 0..3 {
            AnyRef::decode(&mut signed)?;
        }
        let mut validity = inside(&mut signed)?;
        Ok::<_, der::Error>(Validity { begins: time(&mut validity)?, ends: time(&mut validity)? })
    };
    read().ok()
}

/// Reads the names of a subject, which is a list of sets of pairs of type and value (RFC 5280, 4.1.2.4).
fn subject(name: &[u8]) -> der::Result<Vec<Box<str>>> {
    let mut names = Vec::new();
    let mut parts = SliceReader::new(name)?;
    while !parts.is_finished() {
        let mut pairs = inside(&mut parts)?;
        while !pairs.is_finished() {
            let mut pair = inside(&mut pairs)?;
            let kind = ObjectIdentifier::decode(&mut pair)?;
            let value = AnyRef::decode(&mut pair)?;
            let known = ATTRIBUTES.iter().find(|(id, _)| *id == kind);
            if let Some(((_, short), value)) = known.zip(text(value)) {
                names.push(format!("{short}={value}").into());
            }
        }
    }
    Ok(names)
}

fn text(value: AnyRef<'_>) -> Option<&str> {
    let tag = der::Tagged::tag(&value);
    let is_text = matches!(tag, Tag::Utf8String | Tag::PrintableString | Tag::Ia5String);
    is_text.then(|| std::str::from_utf8(value.value()).ok()).flatten()
}

fn time(reader: &mut SliceReader<'_>) -> der::Result<SystemTime> {
    let since: Duration = if reader.peek_byte() == Some(UTC_TIME) {
        UtcTime::decode(reader)?.to_unix_duration()
    } else {
        GeneralizedTime::decode(reader)?.to_unix_duration()
    };
    Ok(UNIX_EPOCH + since)
}

/// Opens the next element for reading.
fn inside<'a>(reader: &mut SliceReader<'a>) -> der::Result<SliceReader<'a>> {
    SliceReader::new(AnyRef::decode(reader)?.value())
}

/// Short names of subject attributes (RFC 4514, 3).
const ATTRIBUTES: [(ObjectIdentifier, &str); 4] = [
    (ObjectIdentifier::new_unwrap("2.5.4.3"), "CN"),
    (ObjectIdentifier::new_unwrap("2.5.4.10"), "O"),
    (ObjectIdentifier::new_unwrap("2.5.4.11"), "OU"),
    (ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1"), "UID"),
];
/// Tag `[0]` before an explicit version.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, SanType, date_time_ymd};

    use super::*;

    #[test]
    fn names_and_times_are_read() {
        let mut params = CertificateParams::new(["API.acme.internal".to_owned()]).expect("a name");
        params.distinguished_name.push(DnType::CommonName, "acme-prod");
        params.distinguished_name.push(DnType::OrganizationName, "Acme & Söhne");
        params.distinguished_name.push(DnType::CountryName, "DE");
        let uri = "spiffe://acme/ns/prod".try_into().expect("a URI");
        params.subject_alt_names.push(SanType::URI(uri));
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 2), date_time_ymd(2051, 3, 4));
        let key = KeyPair::generate().expect("a key");
        let made = params.self_signed(&key).expect("a certificate");
        let mut found = names(made.der());
        found.sort();
        let expected =
            ["CN=acme-prod", "O=Acme & Söhne", "dns:api.acme.internal", "uri:spiffe://acme/ns/prod"];
        assert_eq!(found, expected.map(Box::from));
        let validity = validity(made.der()).expect("times");
        let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
        assert_eq!((validity.begins, validity.ends), (at(1_577_923_200), at(2_561_500_800)));
    }

    #[test]
    fn garbage_has_neither() {
        for garbage in
            [&b""[..], b"\x30\x03\x02\x01\x01", b"-----BEGIN", &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]]
        {
            let garbage = CertificateDer::from(garbage.to_vec());
            assert_eq!((names(&garbage), validity(&garbage)), (Vec::new(), None));
        }
    }
}
