//! TLS to the database: a server with a certificate of a private authority, and clients that do and do not trust it.

use std::{path::PathBuf, sync::Arc};

use loop_core::{
    Error, LoopStore,
    rustls::{ClientConfig, RootCertStore, crypto::ring, pki_types::CertificateDer},
    test_util::TestServer,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair};
use tempfile::TempDir;

use crate::support::one;

const PASSWORD: &str = "correct horse";

/// Who connects how. Encrypted connections alone are for everybody; those without for one who shows a password.
const RULES: &str = "local all all trust
hostnossl all scram 127.0.0.1/32 scram-sha-256
hostssl all scram 127.0.0.1/32 scram-sha-256
hostssl all with_cert 127.0.0.1/32 cert
hostssl all postgres 127.0.0.1/32 trust
";

/// An authority that signs certificates.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Signed {
    certificate: String,
    key: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn sign(&self, mut params: CertificateParams, name: &str, purpose: ExtendedKeyUsagePurpose) -> Signed {
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![purpose];
        let key = KeyPair::generate().unwrap();
        Signed { certificate: params.signed_by(&key, &self.0).unwrap().pem(), key: key.serialize_pem() }
    }

    fn server(&self, host: &str) -> Signed {
        self.sign(CertificateParams::new([host.to_owned()]).unwrap(), host, ExtendedKeyUsagePurpose::ServerAuth)
    }

    fn client(&self, user: &str) -> Signed {
        self.sign(CertificateParams::default(), user, ExtendedKeyUsagePurpose::ClientAuth)
    }
}

/// A server whose certificate is for `localhost`, which is at 127.0.0.1.
struct Tls {
    server: TestServer,
    authority: Authority,
    files: TempDir,
}

impl Tls {
    async fn start() -> Self {
        let (server, authority) = (TestServer::new(), Authority::new("ours"));
        server.write("pg_hba.conf", RULES);
        server.write("ca.crt", &authority.pem());
        let mut tls = Self { server, authority, files: tempfile::tempdir().unwrap() };
        tls.present(&tls.authority.server("localhost"));
        let store = LoopStore::connect(&tls.server.url()).await.unwrap();
        store.raw(&format!("CREATE ROLE scram LOGIN PASSWORD '{PASSWORD}'; CREATE ROLE with_cert LOGIN")).await.unwrap();
        tls
    }

    /// Starts the server, anew if it is running, with this certificate.
    fn present(&mut self, signed: &Signed) {
        self.server.stop();
        self.server.write("server.crt", &signed.certificate);
        self.server.write("server.key", &signed.key);
        self.server.start(&["ssl=on", "ssl_ca_file=ca.crt"]);
    }

    fn file(&self, name: &str, text: &str) -> String {
        let path: PathBuf = self.files.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn url(&self, user: &str, host: &str, settings: &str) -> String {
        format!("host={host} port={} dbname=postgres user={user} {settings}", self.server.port())
    }

    /// Connects as somebody who needs no password, and tells the version of TLS, or what is wrong with which setting.
    async fn connect(&self, host: &str, settings: &str) -> Outcome {
        encryption(LoopStore::connect(&self.url("postgres", host, settings)).await).await
    }
}

/// A version of TLS, or a setting and what is wrong with it.
type Outcome = Result<String, (String, String)>;

async fn encryption(connected: Result<LoopStore, Error>) -> Outcome {
    match connected {
        Ok(store) => Ok(one(&store, "SELECT coalesce(version, 'none') FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await),
        Err(error) => {
            assert!(!error.is_retryable(), "trying again does not help: {error:?}");
            assert!(!format!("{error} {error:?}").contains(PASSWORD));
            match error {
                Error::Configuration { setting, reason } => Err((setting.to_owned(), reason)),
                other => panic!("{other:?}"),
            }
        }
    }
}

#[track_caller]
fn refused(connected: Outcome, setting: &str, reason: &str) {
    let error = connected.unwrap_err();
    assert!(error.0 == setting && error.1.contains(reason), "{error:?}");
}

#[track_caller]
#[expect(clippy::needless_pass_by_value, reason = "it is called with what was just made")]
fn encrypted(connected: Outcome) {
    assert_eq!(connected, Ok("TLSv1.3".to_owned()));
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn each_mode_asks_for_what_it_says() {
    let tls = Tls::start().await;
    let right = format!("sslrootcert={}", tls.file("ca.crt", &tls.authority.pem()));
    let wrong = ["another", "ours"].map(|name| format!("sslrootcert={}", tls.file(&format!("{name}.crt"), &Authority::new(name).pem())));
    let untrusted = "not signed by an authority that is trusted here";

    refused(tls.connect("localhost", "sslmode=disable").await, "connection string", "no encryption");
    for mode in ["", "sslmode=allow", "sslmode=prefer"] {
        // Whoever it is, and at whatever name.
        encrypted(tls.connect("127.0.0.1", mode).await);
    }
    for mode in ["require", "verify-full"] {
        encrypted(tls.connect("localhost", &format!("sslmode={mode} {right}")).await);
        for wrong in &wrong {
            refused(tls.connect("localhost", &format!("sslmode={mode} {wrong}")).await, "sslrootcert", untrusted);
        }
        refused(tls.connect("127.0.0.1", &format!("sslmode={mode} {right}")).await, "host", "for another host");
        // By the platform's authorities, or because it has none.
        refused(tls.connect("localhost", &format!("sslmode={mode}")).await, "sslrootcert", "");
    }
    encrypted(tls.connect("127.0.0.1", &format!("sslmode=verify-ca {right}")).await);
    for wrong in &wrong {
        refused(tls.connect("127.0.0.1", &format!("sslmode=verify-ca {wrong}")).await, "sslrootcert", untrusted);
        refused(tls.connect("localhost", wrong).await, "sslrootcert", untrusted);
    }
    // Who names an authority wants it to be asked.
    encrypted(tls.connect("localhost", &right).await);
    // `hostaddr` is where, `host` is who.
    encrypted(tls.connect("localhost", &format!("hostaddr=127.0.0.1 sslmode=require {right}")).await);
    refused(tls.connect("elsewhere", &format!("hostaddr=127.0.0.1 sslmode=require {right}")).await, "host", "for another host");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn certificates_that_do_not_hold_are_refused() {
    let mut tls = Tls::start().await;
    let right = format!("sslmode=require sslrootcert={}", tls.file("ca.crt", &tls.authority.pem()));
    let mut old = CertificateParams::new(["localhost".to_owned()]).unwrap();
    (old.not_before, old.not_after) = (rcgen::date_time_ymd(2020, 1, 1), rcgen::date_time_ymd(2021, 1, 1));
    tls.present(&tls.authority.sign(old, "localhost", ExtendedKeyUsagePurpose::ServerAuth));
    refused(tls.connect("localhost", &right).await, "sslmode", "expired");
    for mode in ["verify-ca", "require"] {
        refused(tls.connect("localhost", &right.replace("require", mode)).await, "sslmode", "does not hold");
    }
    encrypted(tls.connect("localhost", "sslmode=prefer").await);
    tls.present(&tls.authority.server("localhost"));
    encrypted(tls.connect("localhost", &right).await);
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_server_without_tls_is_refused_where_tls_is_required() {
    let mut server = TestServer::new();
    server.start(&[]);
    let url = |mode| format!("host=127.0.0.1 port={} user=postgres dbname=postgres sslmode={mode}", server.port());
    for mode in ["require", "verify-full", "verify-ca"] {
        let authority = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(authority.path(), Authority::new("any").pem()).unwrap();
        let url = format!("{} sslrootcert={}", url(mode), authority.path().display());
        refused(encryption(LoopStore::connect(&url).await).await, "sslmode", "does not offer it");
    }
    for mode in ["disable", "allow", "prefer"] {
        assert_eq!(encryption(LoopStore::connect(&url(mode)).await).await.as_deref(), Ok("none"), "{mode}");
    }
    // PostgreSQL has none on its sockets, so none is asked for.
    let socket = server.url().replace("sslmode=disable", "sslmode=verify-full&sslrootcert=system");
    if let Ok(store) = LoopStore::builder(&socket).build() {
        store.ping().await.unwrap();
    }
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn passwords_are_bound_to_the_channel() {
    let tls = Tls::start().await;
    let right = format!("sslrootcert={} password='{PASSWORD}'", tls.file("ca.crt", &tls.authority.pem()));
    let connect = async |settings: &str| encryption(LoopStore::connect(&tls.url("scram", "localhost", settings)).await).await;
    for binding in ["require", "prefer", "disable"] {
        encrypted(connect(&format!("sslmode=require {right} channel_binding={binding}")).await);
    }
    assert_eq!(connect(&format!("sslmode=disable {right}")).await.as_deref(), Ok("none"));
    refused(connect(&format!("sslmode=disable {right} channel_binding=require")).await, "connection string", "channel binding");
    for settings in [format!("sslmode=require {}", right.replace(PASSWORD, "wrong")), "password=wrong sslmode=disable".to_owned()] {
        refused(connect(&settings).await, "connection string", "password authentication failed");
    }
    refused(connect("sslmode=disable").await, "connection string", "password missing");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn clients_show_certificates() {
    let tls = Tls::start().await;
    let right = format!("sslmode=require sslrootcert={}", tls.file("ca.crt", &tls.authority.pem()));
    let connect = async |settings: &str| encryption(LoopStore::connect(&tls.url("with_cert", "localhost", settings)).await).await;
    let with = |name: &str, signed: &Signed| {
        let (certificate, key) = (tls.file(&format!("{name}.crt"), &signed.certificate), tls.file(&format!("{name}.key"), &signed.key));
        format!("{right} sslcert={certificate} sslkey={key}")
    };
    let good = with("good", &tls.authority.client("with_cert"));
    encrypted(connect(&good).await);
    refused(connect(&right).await, "connection string", "valid client certificate");
    refused(connect(&with("another", &tls.authority.client("postgres"))).await, "connection string", "certificate authentication failed");
    refused(connect(&with("foreign", &Authority::new("foreign").client("with_cert"))).await, "sslcert", "refused TLS with this client");
    refused(connect(&good.replace("sslkey=", "sslkey=/nowhere")).await, "sslkey", "");
    refused(connect(&good.replace("good.crt", "good.key")).await, "sslcert", "no certificate");
    refused(connect(&good.replace("good.key", "another.key")).await, "sslcert", "");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn a_configuration_of_one_s_own_decides_who_is_trusted() {
    let tls = Tls::start().await;
    let trusting = |authority: &Authority| {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from(authority.0.der().to_vec())).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider())).with_safe_default_protocol_versions();
        builder.unwrap().with_root_certificates(roots).with_no_client_auth()
    };
    let connect = async |host: &str, settings: &str, config: ClientConfig| {
        encryption(LoopStore::builder(&tls.url("postgres", host, settings)).tls_config(config).connect().await).await
    };
    let stranger = Authority::new("stranger");
    for mode in ["", "sslmode=prefer", "sslmode=require"] {
        encrypted(connect("localhost", mode, trusting(&tls.authority)).await);
        refused(connect("localhost", mode, trusting(&stranger)).await, "sslrootcert", "not signed");
        refused(connect("127.0.0.1", mode, trusting(&tls.authority)).await, "host", "another host");
    }
    refused(connect("localhost", "sslmode=disable", trusting(&tls.authority)).await, "sslmode", "is disable");
    // TLS is required then, so it may begin with it; without the configuration somebody has to say so.
    let direct = tls.url("postgres", "localhost", "sslnegotiation=direct");
    LoopStore::builder(&direct).tls_config(trusting(&tls.authority)).build().unwrap();
    refused(encryption(LoopStore::connect(&direct).await).await, "sslnegotiation", "needs sslmode=require");
}

#[tokio::test]
#[ignore = "needs a PostgreSQL server"]
async fn tls_begins_at_once_where_the_server_can() {
    let tls = Tls::start().await;
    let right = format!("sslmode=require sslrootcert={} sslnegotiation=direct", tls.file("ca.crt", &tls.authority.pem()));
    let version: u32 = one(&LoopStore::connect(&tls.server.url()).await.unwrap(), "SHOW server_version_num").await.parse().unwrap();
    if version >= 170_000 {
        encrypted(tls.connect("localhost", &right).await);
    } else {
        refused(tls.connect("localhost", &right).await, "sslnegotiation", "needs PostgreSQL 17");
    }
}
