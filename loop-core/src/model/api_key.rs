use std::fmt;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::enumeration;
use crate::{ApiKeyId, Name, ProjectId, Timestamp};

enumeration! {
    /// What a key may do; each role may do what the ones after it may.
    Role {
        /// Manage keys.
        Admin = "admin",
        /// Create, change and delete.
        Write = "write",
        /// Look.
        Read = "read",
    }
}

impl Role {
    /// Whether this role may do what `needed` may.
    pub fn allows(self, needed: Self) -> bool {
        self <= needed
    }
}

/// A key to the API. The key itself is not stored: only its SHA-256 is, and it is never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ApiKey {
    /// Its id.
    pub id: ApiKeyId,
    /// What it is called.
    pub name: Name,
    /// The first characters of the key, to recognise it by.
    pub prefix: String,
    /// The only project it sees, if it is bound to one.
    pub project_id: Option<ProjectId>,
    /// What it may do.
    pub role: Role,
    /// Whether it opens anything.
    pub active: bool,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
    /// When it stops to open anything.
    pub expires_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was revoked: never, in what the store answers.
    pub deleted_at: Option<Timestamp>,
}

/// What creates a key.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields are those of `ApiKey`")]
pub struct NewApiKey {
    pub name: Name,
    pub role: Role,
    /// `None` means the store's project, where the store is bound to one.
    pub project_id: Option<ProjectId>,
    pub expires_at: Option<Timestamp>,
}

/// A key as its bearer holds it: `loop_` and 32 random bytes in base64url. Wiped from memory when dropped, and hidden from `Debug`.
#[derive(Clone)]
pub struct PlaintextKey(Zeroizing<String>);

impl PlaintextKey {
    const SCHEME: &'static str = "loop_";
    const BYTES: usize = 32;
    const PREFIX_CHARS: usize = 12;

    /// A new random key.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`](crate::Error::Unavailable) when the operating system has no randomness.
    pub(crate) fn generate() -> Result<Self, crate::Error> {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        getrandom::fill(bytes.as_mut_slice()).map_err(crate::Error::unavailable)?;
        let encoded = Zeroizing::new(URL_SAFE_NO_PAD.encode(bytes.as_slice()));
        Ok(Self(Zeroizing::new(format!("{}{}", Self::SCHEME, encoded.as_str()))))
    }

    /// Reads a key that a bearer shows. `None` if it is not of a key's form, so that no database need be asked.
    pub fn parse(text: &str) -> Option<Self> {
        let encoded = text.strip_prefix(Self::SCHEME)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).ok()?);
        (bytes.len() == Self::BYTES).then(|| Self(Zeroizing::new(text.to_owned())))
    }

    /// The key in plain text, to be shown once.
    pub fn reveal(&self) -> &str {
        &self.0
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.0[..Self::PREFIX_CHARS]
    }

    pub(crate) fn hash(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_bytes()).into()
    }
}

impl fmt::Debug for PlaintextKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PlaintextKey({}…)", self.prefix())
    }
}

/// A key that was just made, with its plain text.
#[derive(Debug, Clone)]
pub struct IssuedKey {
    /// The key's row.
    pub key: ApiKey,
    /// The key in plain text: this is the only time it is there.
    pub plaintext: PlaintextKey,
}
