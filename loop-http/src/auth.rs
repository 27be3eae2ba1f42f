//! Who asks, and what they may do. A handler gets a store from nowhere but here, so none can forget to ask or to stay within the
//! key's project.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::{Extensions, HeaderMap, header, request::Parts};
use loop_core::{Actor, ApiKeyId, LoopStore, PlaintextKey, Role};

use crate::{error::ApiError, extract::single, state::AppState};

/// A caller who may look.
pub(crate) struct Reader(pub(crate) LoopStore);

/// A caller who may create, change and delete.
pub(crate) struct Writer(pub(crate) LoopStore);

/// A caller who may manage keys.
pub(crate) struct Admin(pub(crate) LoopStore);

/// A caller of any role.
pub(crate) struct Caller {
    /// What it may see, and in whose name it writes.
    pub(crate) store: LoopStore,
    /// Its key.
    pub(crate) key: ApiKeyId,
    /// Its key's text.
    pub(crate) secret: PlaintextKey,
}

impl FromRequestParts<AppState> for Reader {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        authenticate(parts, state, Role::Read).await.map(|caller| Self(caller.store))
    }
}

impl FromRequestParts<AppState> for Writer {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        authenticate(parts, state, Role::Write).await.map(|caller| Self(caller.store))
    }
}

impl FromRequestParts<AppState> for Admin {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, ApiError> {
        authenticate(parts, state, Role::Admin).await.map(|caller| Self(caller.store))
    }
}

/// Who bears the request's key, if its role allows what is needed.
pub(crate) async fn authenticate(parts: &Parts, state: &AppState, needed: Role) -> Result<Caller, ApiError> {
    const MISSING: &str = "Missing or malformed Authorization header";
    let token = bearer(&parts.headers).ok_or_else(|| ApiError::bearer_required(MISSING))?;
    let key = match PlaintextKey::parse(token) {
        Some(secret) => state.store().api_keys().authenticate(&secret).await?.zip(Some(secret)),
        None => None,
    };
    let Some((key, secret)) = key else {
        state.limits().failed_authentication(client_address(&parts.extensions))?;
        return Err(ApiError::bearer_required("Invalid or inactive API key"));
    };
    if !key.role.allows(needed) {
        return Err(ApiError::forbidden(format!("This needs a key with the role {needed}, and this one has the role {}", key.role)));
    }
    let store = state.store().acting(&Actor::key(&key.id));
    let store = key.project_id.map_or_else(|| store.clone(), |project| store.within(project));
    Ok(Caller { store, key: key.id, secret })
}

/// The token of the one `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = single(headers, header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
}

/// Whom limits count: the peer's address, an IPv6 one by its network, since a client has as many of those as it likes. Unknown where the
/// host that mounts the router does not say.
pub(crate) fn client_address(extensions: &Extensions) -> Option<IpAddr> {
    let ConnectInfo(address) = extensions.get::<ConnectInfo<SocketAddr>>()?;
    Some(match address.ip().to_canonical() {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    })
}
