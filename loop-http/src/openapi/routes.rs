//! Routes, each registered together with what the document says of it.

use axum::{
    Router,
    handler::Handler,
    routing::{MethodRouter, delete, get, patch, post, put},
};
use utoipa::openapi::HttpMethod;

use super::{Documented, OperationDoc, document};
use crate::state::AppState;

/// Says something of an operation.
type Describe = fn(&mut OperationDoc<'_>);

/// Routes with their documentation.
pub(crate) struct Routes {
    tag: &'static str,
    routes: Vec<(Entry, MethodRouter<AppState>)>,
}

/// What the document says of a route.
pub(super) struct Entry {
    pub(super) method: HttpMethod,
    pub(super) path: String,
    pub(super) tag: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) describe: Vec<Describe>,
}

/// Each takes the path, the operation's id, what it does in a line, and the handler.
macro_rules! methods {
    ($($method:ident $name:ident)+) => {
        $(pub(crate) fn $method<H, T, D>(self, path: &str, id: &'static str, summary: &'static str, handler: H) -> Self
        where
            H: Handler<T, AppState> + Documented<D>,
            T: 'static,
        {
            let entry = self.entry(HttpMethod::$name, path, id, summary, H::describe);
            self.with(entry, $method(handler))
        })+
    };
}

impl Routes {
    /// Routes of one kind: none yet.
    pub(crate) fn tagged(tag: &'static str) -> Self {
        Self { tag, routes: Vec::new() }
    }

    methods! { get Get post Post put Put patch Patch delete Delete }

    /// Says more of the route that was added last.
    pub(crate) fn also(mut self, describe: Describe) -> Self {
        if let Some((entry, _)) = self.routes.last_mut() {
            entry.describe.push(describe);
        }
        self
    }

    /// With those routes too.
    pub(crate) fn merge(mut self, other: Self) -> Self {
        self.routes.extend(other.routes);
        self
    }

    /// With those routes too, below this path. They are as any others: a router that is nested in another one costs every request.
    pub(crate) fn nest(mut self, path: &str, other: Self) -> Self {
        self.routes
            .extend(other.routes.into_iter().map(|(entry, route)| (Entry { path: format!("{path}{}", entry.path), ..entry }, route)));
        self
    }

    /// The router, with the document of all its routes at this path of it.
    pub(crate) fn with_document(self, path: &str) -> Router<AppState> {
        let own = self.entry(HttpMethod::Get, path, "getOpenApiDocument", "Get this document", document::describe);
        let (mut entries, handlers): (Vec<Entry>, Vec<_>) = self.routes.into_iter().unzip();
        let router = entries.iter().zip(handlers).fold(Router::new(), |router, (entry, route)| router.route(&entry.path, route));
        entries.push(own);
        router.route(path, document::serve(entries))
    }

    fn entry(&self, method: HttpMethod, path: &str, id: &'static str, summary: &'static str, describe: Describe) -> Entry {
        Entry { method, path: path.to_owned(), tag: self.tag, id, summary, describe: vec![describe] }
    }

    fn with(mut self, entry: Entry, route: MethodRouter<AppState>) -> Self {
        self.routes.push((entry, route));
        self
    }
}
