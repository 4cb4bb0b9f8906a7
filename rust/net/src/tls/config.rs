//! What a server shows and asks in a handshake, replaceable while connections go on.

use std::fmt;
use std::sync::{Arc, LazyLock};

use parking_lot::RwLock;
use penstock_core::certificate::CertificateFacts;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::client::verify_server_name;
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ClientHello, NoServerSessionStorage, ParsedCertificate, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, InconsistentKeys, ProtocolVersion, ServerConfig,
    SignatureScheme, SupportedProtocolVersion,
};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| Arc::new(aws_lc_rs::default_provider()));

/// Session tickets that a client is given after a handshake: mail clients hold few connections beside each other.
const TICKETS: usize = 1;

/// A version of TLS. Older ones are not spoken (RFC 8996).
#[derive(Copy, Clone, Eq, PartialEq, Ord, PartialOrd, Debug)]
pub enum TlsVersion {
    /// RFC 5246.
    Tls12,
    /// RFC 8446.
    Tls13,
}

impl TlsVersion {
    /// Return the number as operators write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Tls12 => "1.2",
            Self::Tls13 => "1.3",
        }
    }

    /// Read the number as operators write it.
    pub fn from_number(number: &str) -> Option<Self> {
        [Self::Tls12, Self::Tls13].into_iter().find(|version| version.as_str() == number)
    }

    pub(crate) fn negotiated(version: Option<ProtocolVersion>) -> Self {
        if version == Some(ProtocolVersion::TLSv1_2) { Self::Tls12 } else { Self::Tls13 }
    }
}

/// Whether clients are asked for certificates.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum ClientCertificates {
    /// They are not.
    None,
    /// They are, and may have none. Who vouches for one is not looked at.
    Ask,
}

/// A certificate with its key, read and found to match.
#[derive(Clone, Debug)]
pub struct Certificate {
    key: Arc<CertifiedKey>,
    facts: CertificateFacts,
}

impl Certificate {
    /// Read a certificate with what vouches for it, and its key, both in PEM.
    ///
    /// # Errors
    /// One of them cannot be read, or they do not belong together.
    pub fn read(chain: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let certificates: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(chain)
            .collect::<Result<_, _>>()
            .map_err(|error| TlsError::new(TlsPart::Chain, pem_reason(&error, "certificate")))?;
        let Some(first) = certificates.first() else {
            return Err(TlsError::new(TlsPart::Chain, "there is no certificate in it"));
        };
        let facts = CertificateFacts::read(first)
            .ok_or_else(|| TlsError::new(TlsPart::Chain, "its first certificate cannot be read"))?;
        let parsed = certificates.iter().all(|certificate| ParsedCertificate::try_from(certificate).is_ok());
        if !parsed {
            return Err(TlsError::new(TlsPart::Chain, "one of its certificates cannot be read"));
        }
        if is_encrypted(key) {
            return Err(TlsError::new(
                TlsPart::Key,
                "it is encrypted; a daemon has nobody to ask for the password",
            ));
        }
        let key = PrivateKeyDer::from_pem_slice(key)
            .map_err(|error| TlsError::new(TlsPart::Key, pem_reason(&error, "private key")))?;
        let key = CertifiedKey::from_der(certificates, key, &PROVIDER).map_err(|error| match error {
            Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                TlsError::new(TlsPart::Key, "it is not the key of the certificate")
            }
            _ => TlsError::new(TlsPart::Key, "it is of a kind that is not supported"),
        })?;
        Ok(Self { key: Arc::new(key), facts })
    }

    /// What the certificate says.
    pub const fn facts(&self) -> &CertificateFacts {
        &self.facts
    }

    /// How many certificates there are, those that vouch for the first included.
    pub fn chain_length(&self) -> usize {
        self.key.cert.len()
    }

    fn is_for(&self, name: &ServerName<'_>) -> bool {
        let parsed = self.key.end_entity_cert().and_then(|first| ParsedCertificate::try_from(first));
        parsed.is_ok_and(|certificate| verify_server_name(&certificate, name).is_ok())
    }
}

fn pem_reason(error: &pem::Error, what: &str) -> String {
    match error {
        pem::Error::NoItemsFound => format!("there is no {what} in it"),
        pem::Error::MissingSectionEnd { .. } => "a section of it has no end".into(),
        _ => "it is not well-formed PEM".into(),
    }
}

/// Whether a PEM key needs a password (RFC 7468 11, RFC 1421 4.6.1.1).
fn is_encrypted(pem: &[u8]) -> bool {
    [&b"BEGIN ENCRYPTED PRIVATE KEY"[..], b"Proc-Type: 4,ENCRYPTED"]
        .iter()
        .any(|mark| pem.windows(mark.len()).any(|window| window == *mark))
}

/// Which of the two files is meant.
#[derive(Copy, Clone, Eq, PartialEq, Debug)]
pub enum TlsPart {
    /// The certificate with what vouches for it.
    Chain,
    /// The private key.
    Key,
}

impl TlsPart {
    /// Return the name in snake case.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Chain => "chain",
            Self::Key => "key",
        }
    }
}

/// Why a certificate cannot be used.
#[derive(Clone, Eq, PartialEq, Debug)]
pub struct TlsError {
    /// Where the fault is.
    pub part: TlsPart,
    /// What it is, about "it": the file.
    pub reason: String,
}

impl TlsError {
    fn new(part: TlsPart, reason: impl Into<String>) -> Self {
        Self { part, reason: reason.into() }
    }
}

impl fmt::Display for TlsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.part.as_str(), self.reason)
    }
}

impl std::error::Error for TlsError {}

/// What a [`ServerTls`] is made from.
#[derive(Clone, Debug)]
pub struct TlsSettings {
    /// At least one. The first is shown to a client that names no server, or none that we have a certificate for.
    pub certificates: Vec<Certificate>,
    /// The oldest version that is spoken.
    pub minimum: TlsVersion,
    /// Whether clients are asked for certificates.
    pub client_certificates: ClientCertificates,
}

/// What a server shows and asks. Replaced as a whole: a handshake has the old one or the new one.
pub struct ServerTls {
    current: RwLock<Arc<ServerConfig>>,
}

impl ServerTls {
    /// Make one.
    pub fn new(settings: TlsSettings) -> Self {
        Self { current: RwLock::new(config(settings)) }
    }

    /// Use other settings from the next handshake on. No session of before is resumed.
    pub fn replace(&self, settings: TlsSettings) {
        let made = config(settings);
        *self.current.write() = made;
    }

    pub(crate) fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.read())
    }
}

fn config(settings: TlsSettings) -> Arc<ServerConfig> {
    let versions: &[&SupportedProtocolVersion] = match settings.minimum {
        TlsVersion::Tls12 => rustls::ALL_VERSIONS,
        TlsVersion::Tls13 => &[&rustls::version::TLS13],
    };
    let asks = settings.client_certificates == ClientCertificates::Ask;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&PROVIDER))
        .with_protocol_versions(versions)
        .expect("invariant: the provider has suites for both versions");
    let builder = if asks {
        builder.with_client_cert_verifier(Arc::new(AnyClient))
    } else {
        builder.with_no_client_auth()
    };
    let mut config = builder.with_cert_resolver(Arc::new(ByName(settings.certificates)));
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    // A session that is resumed has nobody show a certificate, so there are none where clients are asked for theirs.
    if !asks && let Ok(ticketer) = aws_lc_rs::Ticketer::new() {
        config.ticketer = ticketer;
        config.send_tls13_tickets = TICKETS;
    }
    Arc::new(config)
}

/// Picks the certificate by the name that the client asks for; among those, and without a name, the first whose key
/// the client can use.
#[derive(Debug)]
struct ByName(Vec<Certificate>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().and_then(|name| ServerName::try_from(name).ok());
        let is_usable = |one: &&Certificate| one.key.key.choose_scheme(hello.signature_schemes()).is_some();
        let named = name.and_then(|name| self.0.iter().filter(is_usable).find(|one| one.is_for(&name)));
        let chosen = named.or_else(|| self.0.iter().find(is_usable)).or(self.0.first())?;
        Some(Arc::clone(&chosen.key))
    }
}

/// Has any client show that it has the key of its certificate, whoever vouches for it.
#[derive(Debug)]
struct AnyClient;

impl ClientCertVerifier for AnyClient {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &PROVIDER.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        PROVIDER.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHAIN: &[u8] = include_bytes!("../../../../tests/certificates/mail.chain.pem");
    const KEY: &[u8] = include_bytes!("../../../../tests/certificates/mail.key");
    const OTHER_KEY: &[u8] = include_bytes!("../../../../tests/certificates/other.key");
    const ENCRYPTED: &[u8] = include_bytes!("../../../../tests/certificates/encrypted.key");

    #[test]
    fn a_certificate_and_its_key_are_read() {
        let certificate = Certificate::read(CHAIN, KEY).expect("they belong together");
        assert_eq!(certificate.facts().names, ["mail.example", "*.mail.example"]);
        assert_eq!(certificate.chain_length(), 2);
        let is_for = |name: &'static str| certificate.is_for(&ServerName::try_from(name).expect("a name"));
        assert!(is_for("mail.example") && is_for("x.mail.example"));
        assert!(!is_for("x.y.mail.example") && !is_for("other.example"));
    }

    #[test]
    fn what_cannot_be_used_says_which_file_and_why() {
        let cut = CHAIN.get(..CHAIN.len() - 40).unwrap_or_default();
        let garbage: &[u8] = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let not_base64: &[u8] = b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
        let odd_key: &[u8] = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        for (chain, key, part, reason) in [
            (&b""[..], KEY, TlsPart::Chain, "there is no certificate in it"),
            (KEY, KEY, TlsPart::Chain, "there is no certificate in it"),
            (cut, KEY, TlsPart::Chain, "a section of it has no end"),
            (garbage, KEY, TlsPart::Chain, "its first certificate cannot be read"),
            (not_base64, KEY, TlsPart::Chain, "it is not well-formed PEM"),
            (CHAIN, b"", TlsPart::Key, "there is no private key in it"),
            (CHAIN, CHAIN, TlsPart::Key, "there is no private key in it"),
            (CHAIN, OTHER_KEY, TlsPart::Key, "it is not the key of the certificate"),
            (CHAIN, odd_key, TlsPart::Key, "it is of a kind that is not supported"),
            (CHAIN, ENCRYPTED, TlsPart::Key, "it is encrypted; a daemon has nobody to ask for the password"),
        ] {
            let error = Certificate::read(chain, key).expect_err(reason);
            assert_eq!((error.part, error.reason.as_str()), (part, reason));
        }
        let chain = [CHAIN, garbage].concat();
        let error = Certificate::read(&chain, KEY).expect_err("a chain with garbage in it");
        assert_eq!(error.to_string(), "chain: one of its certificates cannot be read");
    }

    #[test]
    fn versions_are_read_as_they_are_written() {
        for version in [TlsVersion::Tls12, TlsVersion::Tls13] {
            assert_eq!(TlsVersion::from_number(version.as_str()), Some(version));
        }
        assert_eq!(TlsVersion::from_number("1.1"), None);
    }
}
