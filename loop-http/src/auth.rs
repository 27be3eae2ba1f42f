//! Who asks, and what they may do. A handler gets a store from nowhere but here, so none can forget to ask or to stay within the
//! key's project.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use http::{HeaderMap, HeaderName, header, request::Parts};
use loop_core::{Actor, ApiKeyId, LoopStore, PlaintextKey, Role};

use crate::{error::ApiError, extract::single, state::AppState};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

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
        Some(secret) => state.store().api_keys().authenticate_cached(&secret).await?.zip(Some(secret)),
        None => None,
    };
    let Some((key, secret)) = key else {
        state.limits().failed_authentication(client_address(parts, state), Some(token))?;
        return Err(ApiError::bearer_required("Invalid or inactive API key"));
    };
    state.limits().request(&key.id)?;
    if !key.role.allows(needed) {
        return Err(ApiError::forbidden(format!("This needs a key with the role {needed}, and this one has the role {}", key.role)));
    }
    let mut store = state.store().acting(&Actor::key(&key.id));
    if let Some(project) = &key.project_id {
        store = store.within(project.clone());
    }
    Ok(Caller { store, key: key.id.clone(), secret })
}

/// The token of the one `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = single(headers, header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty() && !token.contains(' ')).then_some(token)
}

/// Whom limits count: the client's address, an IPv6 one by its network, since a client has as many of those as it likes. It is the peer's, or
/// the one that trusted proxies say they speak for. Unknown where the host that mounts the router does not say.
pub(crate) fn client_address(parts: &Parts, state: &AppState) -> Option<IpAddr> {
    let ConnectInfo(peer) = parts.extensions.get::<ConnectInfo<SocketAddr>>()?;
    let peer = peer.ip().to_canonical();
    let limits = state.limits();
    let address =
        if limits.is_trusted_proxy(peer) { forwarded_for(&parts.headers, peer, |proxy| limits.is_trusted_proxy(proxy)) } else { peer };
    Some(match address {
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    })
}

/// The last address of `X-Forwarded-For` that is no trusted proxy's: each proxy appends whom it speaks for, so what stands before the first
/// one that is not trusted is only that one's word. Where the list cannot be read, it is the proxy that passed it on.
fn forwarded_for(headers: &HeaderMap, peer: IpAddr, is_trusted: impl Fn(IpAddr) -> bool) -> IpAddr {
    let mut client = peer;
    for value in headers.get_all(FORWARDED_FOR).iter().rev() {
        let Ok(list) = value.to_str() else { return client };
        for entry in list.rsplit(',') {
            let Some(address) = address(entry.trim()) else { return client };
            client = address;
            if !is_trusted(client) {
                return client;
            }
        }
    }
    client
}

/// An address, as proxies write it: alone or with a port, an IPv6 one perhaps in brackets.
fn address(text: &str) -> Option<IpAddr> {
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let address = bare.parse().ok().or_else(|| text.parse::<SocketAddr>().ok().map(|address| address.ip()));
    address.map(|address: IpAddr| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_address_that_is_not_trusted_is_the_client_s() {
        let proxies = ["10.0.0.1", "10.0.0.2", "fd00::1"].map(|text| text.parse::<IpAddr>().unwrap());
        let client = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(FORWARDED_FOR, value.parse().unwrap());
            }
            forwarded_for(&headers, proxies[0], |address| proxies.contains(&address)).to_string()
        };
        assert_eq!(client(&[]), "10.0.0.1");
        for (values, expected) in [
            (&["192.0.2.1"][..], "192.0.2.1"),
            (&["192.0.2.1:4711"], "192.0.2.1"),
            (&["[2001:db8::1]:4711"], "2001:db8::1"),
            (&["[2001:db8::1]"], "2001:db8::1"),
            (&["::ffff:192.0.2.1"], "192.0.2.1"),
            // What a client says of itself stands first, and is not believed.
            (&["1.2.3.4, 192.0.2.1"], "192.0.2.1"),
            (&["1.2.3.4", "192.0.2.1, 10.0.0.2"], "192.0.2.1"),
            (&["1.2.3.4, 192.0.2.1, fd00::1,10.0.0.2"], "192.0.2.1"),
            // Only proxies: the first of them.
            (&["10.0.0.2, fd00::1"], "10.0.0.2"),
            // Nobody knows whom the last one that can be read spoke for.
            (&["192.0.2.1, unknown, 10.0.0.2"], "10.0.0.2"),
            (&["unknown"], "10.0.0.1"),
            (&[""], "10.0.0.1"),
        ] {
            assert_eq!(client(values), expected, "{values:?}");
        }
    }
}
