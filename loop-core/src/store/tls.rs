//! TLS to the database, with rustls, the platform's root certificates or a file of them.

#[cfg(feature = "tls")]
use std::sync::Arc;

use deadpool_postgres::{Manager, ManagerConfig, RecyclingMethod};
#[cfg(feature = "tls")]
use rustls::{
    client::danger::{HandshakeSignatureValid, ServerCertVerified},
    pki_types::CertificateDer,
};
use tokio_postgres::{CancelToken, NoTls};
#[cfg(feature = "tls")]
use tokio_postgres_rustls::MakeRustlsConnect;

use super::connection_string::TlsSettings;
use crate::Error;

/// What `sslmode=prefer` asks for, which is what a string without `sslmode` means: encryption where the server has it, whoever the server
/// is. It would do without encryption, too, so a certificate that nobody vouches for is no reason to refuse; many servers have one of their
/// own making.
#[cfg(feature = "tls")]
#[derive(Debug)]
struct AnyCertificate(Arc<rustls::crypto::CryptoProvider>);

#[cfg(feature = "tls")]
impl rustls::client::danger::ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &rustls::pki_types::ServerName<'_>,
        _: &[u8],
        _: rustls::pki_types::UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(message, certificate, signature, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// How connections are protected.
#[derive(Clone)]
pub(crate) enum Tls {
    Off,
    #[cfg(feature = "tls")]
    Rustls(Box<MakeRustlsConnect>),
}

impl Tls {
    #[cfg(feature = "tls")]
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, Error> {
        use rustls::pki_types::pem::PemObject as _;

        let unusable = |reason: String| Error::Configuration { setting: "sslrootcert", reason };
        if settings.disabled {
            return Ok(Self::Off);
        }
        let builder = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable(error.to_string()))?;
        if !settings.required && settings.root_cert.is_none() {
            let verifier = Arc::new(AnyCertificate(Arc::clone(builder.crypto_provider())));
            return Ok(Self::rustls(builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()));
        }
        let mut roots = rustls::RootCertStore::empty();
        if let Some(file) = &settings.root_cert {
            for certificate in CertificateDer::pem_file_iter(file).map_err(|error| unusable(error.to_string()))? {
                let certificate = certificate.map_err(|error| unusable(error.to_string()))?;
                roots.add(certificate).map_err(|error| unusable(error.to_string()))?;
            }
            if roots.is_empty() {
                return Err(unusable("holds no certificate".to_owned()));
            }
        } else {
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            if roots.is_empty() {
                return Err(unusable("the platform has no root certificates; name a file of them".to_owned()));
            }
        }
        Ok(Self::rustls(builder.with_root_certificates(roots).with_no_client_auth()))
    }

    #[cfg(feature = "tls")]
    fn rustls(mut config: rustls::ClientConfig) -> Self {
        // What `sslnegotiation=direct` asks for.
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        Self::Rustls(Box::new(MakeRustlsConnect::new(config)))
    }

    #[cfg(not(feature = "tls"))]
    pub(crate) fn new(settings: &TlsSettings) -> Result<Self, Error> {
        if settings.required || settings.root_cert.is_some() {
            return Err(Error::Configuration { setting: "sslmode", reason: "this build has no TLS (feature `tls`)".to_owned() });
        }
        Ok(Self::Off)
    }

    /// What opens the pool's connections.
    pub(crate) fn manager(&self, config: tokio_postgres::Config, recycling_method: RecyclingMethod) -> Manager {
        let settings = ManagerConfig { recycling_method };
        match self {
            Self::Off => Manager::from_config(config, NoTls, settings),
            #[cfg(feature = "tls")]
            Self::Rustls(tls) => Manager::from_config(config, (**tls).clone(), settings),
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
