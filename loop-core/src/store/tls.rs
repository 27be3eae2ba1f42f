//! TLS to the database, with rustls: the platform's root certificates, a file of them, or a configuration of the caller's own.

#[cfg(feature = "tls")]
use std::sync::Arc;

#[cfg(feature = "tls")]
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime, pem::PemObject as _},
};
use tokio_postgres::{CancelToken, Client, Config, Connection, NoTls, Socket};
#[cfg(feature = "tls")]
use tokio_postgres_rustls::MakeRustlsConnect;

#[cfg(feature = "tls")]
use super::connection_string::SslMode;
use super::connection_string::TlsSettings;
use crate::Error;

/// How connections are protected.
#[derive(Clone)]
pub(crate) enum Tls {
    Off,
    #[cfg(feature = "tls")]
    Rustls(Box<MakeRustlsConnect>),
}

#[cfg(not(feature = "tls"))]
impl Tls {
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, Error> {
        let TlsSettings { mode: _, root_cert, system_roots: _, client_cert, client_key: _ } = settings;
        let wanted = settings.mode().driver() == tokio_postgres::config::SslMode::Require || root_cert.is_some() || client_cert.is_some();
        if wanted { Err(Error::configuration("sslmode", "this build has no TLS (feature `ring` or `aws-lc-rs`)")) } else { Ok(Self::Off) }
    }
}

#[cfg(feature = "tls")]
impl Tls {
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, Error> {
        if settings.mode() == SslMode::Disable {
            return Ok(Self::Off);
        }
        let Some(provider) = PROVIDER.map(|provider| Arc::new(provider())) else {
            return match settings.mode() {
                SslMode::Prefer => Ok(Self::Off),
                _ => Err(Error::configuration("sslmode", "this build has no cryptography (feature `ring` or `aws-lc-rs`)")),
            };
        };
        let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(|error| Error::configuration("sslmode", error))?;
        let builder = match (settings.mode(), &settings.root_cert) {
            (SslMode::Prefer, None) => {
                let verifier = Lenient { provider, chain: None };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            (SslMode::VerifyCa, _) => {
                let chain = WebPkiServerVerifier::builder_with_provider(Arc::new(roots(settings)?), Arc::clone(&provider))
                    .build()
                    .map_err(|error| Error::configuration("sslrootcert", error))?;
                let verifier = Lenient { provider, chain: Some(chain) };
                builder.dangerous().with_custom_certificate_verifier(Arc::new(verifier))
            }
            _ => builder.with_root_certificates(roots(settings)?),
        };
        let config = match (&settings.client_cert, &settings.client_key) {
            (Some(cert), Some(key)) => {
                let key = PrivateKeyDer::from_pem_file(key).map_err(|error| Error::configuration("sslkey", error))?;
                builder
                    .with_client_auth_cert(certificates("sslcert", cert)?, key)
                    .map_err(|error| Error::configuration("sslcert", error))?
            }
            _ => builder.with_no_client_auth(),
        };
        Ok(Self::with_config(config))
    }

    /// With a configuration of the caller's own.
    pub(crate) fn with_config(mut config: ClientConfig) -> Self {
        if config.alpn_protocols.is_empty() {
            // What `sslnegotiation=direct` asks for.
            config.alpn_protocols = vec![b"postgresql".to_vec()];
        }
        Self::Rustls(Box::new(MakeRustlsConnect::new(config)))
    }
}

impl Tls {
    /// Opens a connection, which a task of its own serves from then on.
    pub(crate) async fn connect(&self, config: &Config) -> Result<Opened, tokio_postgres::Error> {
        match self {
            Self::Off => config.connect(NoTls).await.map(Opened::new),
            #[cfg(feature = "tls")]
            Self::Rustls(tls) => config.connect((**tls).clone()).await.map(Opened::new),
        }
    }

    /// Asks the server to stop what it is doing for a connection. It may be gone, or done, and answers nothing.
    pub(crate) async fn cancel(&self, token: &CancelToken) {
        let asked = match self {
            Self::Off => token.cancel_query(NoTls).await,
            #[cfg(feature = "tls")]
            Self::Rustls(tls) => token.cancel_query((**tls).clone()).await,
        };
        if let Err(error) = asked {
            tracing::debug!(%error, "cancelling a statement that took too long");
        }
    }
}

/// A connection, however it is protected.
pub(crate) struct Opened {
    pub(crate) client: Client,
    /// The style of intervals that the server says the session has.
    pub(crate) interval_style: Option<String>,
    pub(crate) serving: tokio::task::JoinHandle<()>,
}

impl Opened {
    fn new<T: tokio_postgres::tls::TlsStream + Unpin + Send + 'static>((client, connection): (Client, Connection<Socket, T>)) -> Self {
        let interval_style = connection.parameter("IntervalStyle").map(str::to_owned);
        let serving = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to the database ended");
            }
        });
        Self { client, interval_style, serving }
    }
}

/// The cryptography this build has.
#[cfg(feature = "tls")]
const PROVIDER: Option<fn() -> CryptoProvider> = {
    #[cfg(feature = "aws-lc-rs")]
    {
        Some(rustls::crypto::aws_lc_rs::default_provider)
    }
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    {
        Some(rustls::crypto::ring::default_provider)
    }
    #[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
    {
        None
    }
};

#[cfg(feature = "tls")]
fn roots(settings: &TlsSettings) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    if let Some(file) = &settings.root_cert {
        for certificate in certificates("sslrootcert", file)? {
            roots.add(certificate).map_err(|error| Error::configuration("sslrootcert", error))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            return Err(Error::configuration("sslrootcert", "the platform has no root certificates; name a file of them"));
        }
    }
    Ok(roots)
}

#[cfg(feature = "tls")]
fn certificates(setting: &'static str, file: &str) -> Result<Vec<CertificateDer<'static>>, Error> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| Error::configuration(setting, error))?;
    if certificates.is_empty() { Err(Error::configuration(setting, "the file holds no certificate")) } else { Ok(certificates) }
}

/// A verifier that asks for less than rustls does.
///
/// Without a chain it takes any certificate. That is what `sslmode=prefer` asks for, which is what a string without `sslmode` means:
/// encryption where the server has it, whoever the server is. It would do without encryption, too, so a certificate that nobody vouches for
/// is no reason to refuse; many servers have one of their own making.
#[cfg(feature = "tls")]
#[derive(Debug)]
struct Lenient {
    provider: Arc<CryptoProvider>,
    /// Who must have signed the certificate, whatever host it is for.
    chain: Option<Arc<WebPkiServerVerifier>>,
}

#[cfg(feature = "tls")]
impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        use CertificateError::{NotValidForName, NotValidForNameContext};

        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        match chain.verify_server_cert(certificate, intermediates, name, ocsp_response, now) {
            // rustls looks at the name when all else was found to be right.
            Err(rustls::Error::InvalidCertificate(NotValidForName | NotValidForNameContext { .. })) => Ok(ServerCertVerified::assertion()),
            verified => verified,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// Which setting to look at, and why, where TLS is what kept a connection from being made.
#[cfg(feature = "tls")]
pub(crate) fn complaint(error: &tokio_postgres::Error) -> Option<(&'static str, String)> {
    use rustls::Error as Tls;

    let mut cause = std::error::Error::source(error);
    let tls = loop {
        let current = cause?;
        let inner = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        if let Some(tls) = inner.and_then(|inner| inner.downcast_ref::<Tls>()).or_else(|| current.downcast_ref()) {
            break tls;
        }
        cause = current.source();
    };
    Some(match tls {
        // The other one is what an authority of the same name with another key makes of it.
        Tls::InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => (
            "sslrootcert",
            "the server's certificate is not signed by an authority that is trusted here; name the file of the one it is signed by".into(),
        ),
        Tls::InvalidCertificate(name @ (CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. })) => (
            "host",
            format!("the server's certificate is for another host ({name}); connect by a name it is for, or use sslmode=verify-ca"),
        ),
        Tls::InvalidCertificate(reason) => ("sslmode", format!("the server's certificate does not hold: {reason}")),
        Tls::AlertReceived(alert) => ("sslcert", format!("the server refused TLS with this client: {alert:?}")),
        other => ("sslmode", format!("TLS with the server failed: {other}")),
    })
}

#[cfg(not(feature = "tls"))]
pub(crate) fn complaint(_: &tokio_postgres::Error) -> Option<(&'static str, String)> {
    None
}
