//! Connection strings as people have them: what the driver does not know is mapped, or dropped with a warning.

use super::StatementMode;
use crate::Error;

/// A connection string, understood.
pub(crate) struct Parsed {
    pub(crate) config: tokio_postgres::Config,
    pub(crate) tls: TlsSettings,
    pub(crate) mode: StatementMode,
    pub(crate) schema: Option<String>,
    pub(crate) pool_size: Option<usize>,
    pub(crate) row_security: bool,
    /// Whether the string says how long a connection may be silent.
    pub(crate) keepalives_idle: bool,
    pub(crate) warnings: Vec<String>,
}

/// What a connection string says of TLS.
#[derive(Debug, Default)]
pub(crate) struct TlsSettings {
    /// `None` where nothing was said of it.
    pub(crate) mode: Option<SslMode>,
    /// A file of root certificates in place of the platform's.
    pub(crate) root_cert: Option<String>,
    /// Whether the platform's are asked for by name.
    pub(crate) system_roots: bool,
    /// A file with the client's certificate, and those between it and the root.
    pub(crate) client_cert: Option<String>,
    /// A file with the key to it.
    pub(crate) client_key: Option<String>,
}

impl TlsSettings {
    pub(crate) fn mode(&self) -> SslMode {
        self.mode.unwrap_or_default()
    }
}

/// How much of TLS a connection needs. What requires it verifies the server.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    /// Where the server has it.
    #[default]
    Prefer,
    /// The certificate is signed by an authority that is trusted, whatever host it is for.
    VerifyCa,
    /// The certificate is also for the host that was asked for. It is what `require` means here, too.
    VerifyFull,
}

impl SslMode {
    /// What the driver knows of it.
    pub(crate) const fn driver(self) -> tokio_postgres::config::SslMode {
        match self {
            Self::Disable => tokio_postgres::config::SslMode::Disable,
            Self::Prefer => tokio_postgres::config::SslMode::Prefer,
            Self::VerifyCa | Self::VerifyFull => tokio_postgres::config::SslMode::Require,
        }
    }
}

/// What the driver itself understands.
const DRIVER_KEYS: &[&str] = &[
    "user",
    "password",
    "dbname",
    "options",
    "application_name",
    "sslnegotiation",
    "host",
    "hostaddr",
    "port",
    "connect_timeout",
    "tcp_user_timeout",
    "keepalives",
    "keepalives_interval",
    "keepalives_retries",
    "target_session_attrs",
    "channel_binding",
    "load_balance_hosts",
];

fn unusable(reason: &str) -> Error {
    Error::configuration("connection string", reason)
}

/// Reads a connection string, as a URL or as `key=value` pairs.
pub(crate) fn parse(text: &str) -> Result<Parsed, Error> {
    let text = text.trim();
    let mut parsed = Parsed {
        config: tokio_postgres::Config::new(),
        tls: TlsSettings::default(),
        mode: StatementMode::Prepared,
        schema: None,
        pool_size: None,
        row_security: false,
        keepalives_idle: false,
        warnings: Vec::new(),
    };
    let cleaned = if text.starts_with("postgres://") || text.starts_with("postgresql://") {
        let (base, query) = text.split_once('?').unwrap_or((text, ""));
        let mut kept = form_urlencoded::Serializer::new(String::new());
        for (key, value) in form_urlencoded::parse(query.as_bytes()) {
            if let Some(value) = parsed.take(&key, &value)? {
                kept.append_pair(&key, &value);
            }
        }
        // The driver reads `%20`, not `+`, as a space.
        let kept = kept.finish().replace('+', "%20");
        if kept.is_empty() { base.to_owned() } else { format!("{base}?{kept}") }
    } else {
        let mut kept = Vec::new();
        for (key, value) in pairs(text)? {
            if let Some(value) = parsed.take(&key, &value)? {
                let value = value.replace('\\', "\\\\").replace('\'', "\\'");
                kept.push(format!("{key}='{value}'"));
            }
        }
        kept.join(" ")
    };
    // The driver's own message may repeat the string, and with it the password.
    parsed.config = cleaned.parse().map_err(|_| unusable("is neither a postgres:// URL nor key=value pairs that can be read"))?;
    if parsed.config.get_hosts().is_empty() {
        return Err(unusable("names no host"));
    }
    let TlsSettings { mode, root_cert, system_roots, client_cert, client_key } = &mut parsed.tls;
    if *system_roots && root_cert.is_none() {
        match mode {
            // Nothing was said of it.
            None => *mode = Some(SslMode::VerifyFull),
            Some(SslMode::VerifyFull) => {}
            Some(_) => return Err(unusable("sslrootcert=system goes with sslmode=verify-full or require alone, which verify the host")),
        }
    }
    if *mode == Some(SslMode::VerifyCa) && root_cert.is_none() {
        // The platform's authorities sign for anybody, so without the host it would be anybody.
        return Err(unusable("sslmode=verify-ca needs sslrootcert, the file of an authority of one's own; or use verify-full"));
    }
    if client_cert.is_some() != client_key.is_some() {
        return Err(unusable("sslcert and sslkey belong together, and one of them is missing"));
    }
    let mode = parsed.tls.mode();
    parsed.config.ssl_mode(mode.driver());
    if is_pooler(&parsed.config) {
        parsed.mode = StatementMode::Unnamed;
    }
    Ok(parsed)
}

impl Parsed {
    /// Takes one setting: what the driver is to see of it, if anything.
    fn take(&mut self, key: &str, value: &str) -> Result<Option<String>, Error> {
        match key {
            "sslmode" => self.ssl_mode(value)?,
            // In libpq, too, this leaves no choice of mode but `verify-full`.
            "sslrootcert" if value == "system" => self.tls.system_roots = true,
            "keepalives_idle" => {
                self.keepalives_idle = true;
                return Ok(Some(value.to_owned()));
            }
            "sslrootcert" => self.tls.root_cert = Some(value.to_owned()),
            "sslcert" => self.tls.client_cert = Some(value.to_owned()),
            "sslkey" => self.tls.client_key = Some(value.to_owned()),
            "pgbouncer" if value == "true" => self.mode = StatementMode::Unnamed,
            "pgbouncer" => {}
            "row_security" => {
                self.row_security = value.parse().map_err(|_| unusable("row_security must be true or false"))?;
            }
            "schema" | "currentSchema" => self.schema = Some(value.to_owned()),
            "connection_limit" => {
                self.pool_size =
                    Some(value.parse().ok().filter(|size| *size > 0).ok_or_else(|| unusable("connection_limit is not a number above 0"))?);
            }
            // The driver asks for what a session may do, which is what the server's part in a replication decides.
            "target_session_attrs" if value == "primary" => return Ok(Some("read-write".to_owned())),
            "target_session_attrs" if value == "standby" => return Ok(Some("read-only".to_owned())),
            "target_session_attrs" if value == "prefer-standby" => {
                self.warnings.push("target_session_attrs=prefer-standby is read as any: the hosts are tried in their order".to_owned());
            }
            known if DRIVER_KEYS.contains(&known) => return Ok(Some(value.to_owned())),
            // What is no word, or stands before an @, may be a part of a password that was not escaped.
            odd if odd.is_empty() || !odd.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || value.contains('@') => {
                return Err(unusable("has a setting that cannot be one; is there a password with a character that must be escaped?"));
            }
            unknown => self.warnings.push(format!("the setting {} is not known here and was left out", unknown.escape_debug())),
        }
        Ok(None)
    }

    /// A certificate that must be there is always verified, so `require` is stricter here than in libpq, and the same as `verify-full`.
    fn ssl_mode(&mut self, mode: &str) -> Result<(), Error> {
        self.tls.mode = Some(match mode {
            "disable" => SslMode::Disable,
            "allow" | "prefer" => SslMode::Prefer,
            "verify-ca" => SslMode::VerifyCa,
            "require" | "verify-full" => SslMode::VerifyFull,
            "no-verify" => return Err(unusable("sslmode=no-verify is not offered: it protects against nobody; give sslrootcert")),
            _ => return Err(unusable("sslmode must be disable, allow, prefer, require, verify-ca or verify-full")),
        });
        Ok(())
    }
}

/// Whether these hosts and ports are those of poolers that give every transaction another connection: PgBouncer's own port, Supabase's
/// transaction mode, and the pooled endpoints of Neon, Amazon RDS and Digital Ocean.
fn is_pooler(config: &tokio_postgres::Config) -> bool {
    let port = |wanted: u16| config.get_ports().contains(&wanted);
    let host = |pooler: fn(&str) -> bool| {
        config.get_hosts().iter().any(|host| matches!(host, tokio_postgres::config::Host::Tcp(name) if pooler(name)))
    };
    port(6432)
        || port(6543)
        || host(|name| name.ends_with(".neon.tech") && name.split('.').next().is_some_and(|first| first.ends_with("-pooler")))
        || host(|name| name.ends_with(".rds.amazonaws.com") && name.split('.').skip(1).any(|label| label.starts_with("proxy-")))
        || (port(25061) && host(|name| name.ends_with(".ondigitalocean.com")))
}

/// Reads `key=value` pairs, with values in single quotes where they hold spaces.
fn pairs(text: &str) -> Result<Vec<(String, String)>, Error> {
    let mut pairs = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').ok_or_else(|| unusable("has a word without ="))?;
        let after = after.trim_start();
        let (quoted, mut chars) = match after.strip_prefix('\'') {
            Some(inner) => (true, inner.char_indices()),
            None => (false, after.char_indices()),
        };
        let source = chars.as_str();
        let mut value = String::new();
        let mut end = source.len();
        let mut closed = !quoted;
        while let Some((index, char)) = chars.next() {
            match char {
                '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
                '\'' if quoted => {
                    (end, closed) = (index + 1, true);
                    break;
                }
                space if !quoted && space.is_whitespace() => {
                    end = index;
                    break;
                }
                other => value.push(other),
            }
        }
        if !closed {
            return Err(unusable("has a quote that is not closed"));
        }
        pairs.push((key.trim().to_owned(), value));
        rest = source[end..].trim_start();
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_paste_is_understood() {
        let parsed = parse("postgres://u:p%40x@h:6543/db?pgbouncer=true&connection_limit=3&sslmode=verify-full&supa=x&sslrootcert=/ca.crt")
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.config.get_password(), Some(&b"p@x"[..]));
        assert_eq!((parsed.mode, parsed.pool_size), (StatementMode::Unnamed, Some(3)));
        assert_eq!((parsed.tls.mode(), parsed.tls.root_cert.as_deref()), (SslMode::VerifyFull, Some("/ca.crt")));
        assert_eq!(parsed.warnings.len(), 1);

        let parsed = parse(r"host=localhost user=u password='a \'b' sslmode=disable options='-c geqo=off'")
            .unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(parsed.config.get_password(), Some(&b"a 'b"[..]));
        assert_eq!(parsed.config.get_options(), Some("-c geqo=off"));
        assert_eq!(parsed.mode, StatementMode::Prepared);

        let system = parse("postgres://u@h/db?sslrootcert=system&keepalives_idle=7200").unwrap_or_else(|error| panic!("{error}"));
        assert_eq!((system.tls.mode(), system.tls.root_cert, system.keepalives_idle), (SslMode::VerifyFull, None, true));

        // As Prisma writes it for Supabase.
        let prisma = "postgres://u:p@h:6543/db?pgbouncer=true&schema=public";
        super::super::StoreBuilder::new(prisma).build().unwrap_or_else(|error| panic!("{error}"));

        let mode = |text: &str| parse(text).map(|parsed| parsed.mode).ok();
        for pooler in [
            "postgresql://u:p@ep-cool-1-pooler.eu-central-1.aws.neon.tech/db?sslmode=require&channel_binding=require",
            "postgres://u:p@shop.proxy-cz1example.eu-central-1.rds.amazonaws.com/db",
            "postgres://u:p@db-1.b.db.ondigitalocean.com:25061/pool",
            "host=a,b port=6432",
        ] {
            assert_eq!(mode(pooler), Some(StatementMode::Unnamed), "{pooler}");
        }
        for direct in [
            "postgresql://u:p@ep-cool-1.eu-central-1.aws.neon.tech/db",
            "postgres://u:p@shop.cz1example.eu-central-1.rds.amazonaws.com/db",
            "postgres://u:p@localhost:25061/db",
            "postgres://u:p@proxy-shop.cz1example.eu-central-1.rds.amazonaws.com/db",
        ] {
            assert_eq!(mode(direct), Some(StatementMode::Prepared), "{direct}");
        }

        let attrs =
            |text: &str| parse(&format!("host=a,b target_session_attrs={text}")).map(|it| it.config.get_target_session_attrs()).ok();
        assert_eq!(attrs("primary"), attrs("read-write"));
        assert_eq!(attrs("standby"), attrs("read-only"));
        assert_eq!(attrs("prefer-standby"), attrs("any"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_without_repeating_the_password() {
        for text in [
            "",
            "postgres://",
            "secret",
            "host=h password='secret",
            "postgres://u:secret@h:port/db",
            "postgres://u:secret@h/db?sslmode=off",
            "host=h user=u password=very secret sslmode=disable",
            "postgres://u:12?secret@h/db",
            "postgres://u:12?secret=9@h/db",
            "postgres://u:secret@h/db?sslcert=/c.pem",
            // Anybody can have a certificate of a public authority for some name.
            "postgres://u:secret@h/db?sslmode=verify-ca",
            "postgres://u:secret@h/db?sslrootcert=system&sslmode=verify-ca",
            "postgres://u:secret@h/db?sslmode=prefer&sslrootcert=system",
            "postgres://u:secret@h/db?sslrootcert=system&sslmode=prefer",
        ] {
            let error = parse(text).err().unwrap_or_else(|| panic!("{text} was accepted"));
            assert!(matches!(error, Error::Configuration { setting: "connection string", .. }), "{text}: {error:?}");
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
        }
    }
}
