//! What is asked: hot routes by name, as templates that are filled in for each request.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
};

use anyhow::{Context as _, Result, ensure};
use bytes::Bytes;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http_body_util::Full;
use hyper::{
    HeaderMap, Method, Request,
    header::{HOST, HeaderName, HeaderValue},
};
use serde::Deserialize;
use sha2::Sha256;

/// A file that says how an implementation is asked, so that different ones can be asked the same.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RouteFile {
    /// What `{name}` stands for in a template: one of these, at random.
    #[serde(default)]
    pub(crate) values: BTreeMap<String, Vec<String>>,
    pub(crate) routes: BTreeMap<String, Template>,
}

/// A request. In its path, headers and body `{name}` stands for a value, and `{unique}` for 24 letters and digits that nothing else has.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Template {
    #[serde(default = "get")]
    method: String,
    path: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    body: Option<String>,
    /// The header that carries the HMAC-SHA256 of the body in hexadecimal, and the secret.
    sign: Option<(String, String)>,
}

fn get() -> String {
    "GET".to_owned()
}

/// An implementation that is asked.
pub(crate) struct Target {
    pub(crate) address: SocketAddr,
    pub(crate) routes: BTreeMap<String, Route>,
}

impl Target {
    pub(crate) fn new(address: SocketAddr, file: RouteFile) -> Result<Self> {
        let RouteFile { values, routes } = file;
        ensure!(values.values().all(|list| !list.is_empty()), "a value without any choice");
        let routes = routes.into_iter().map(|(name, template)| {
            let route = Route::new(address, &values, template).with_context(|| format!("the route {name}"))?;
            Ok((name, route))
        });
        Ok(Self { address, routes: routes.collect::<Result<_>>()? })
    }
}

/// A template that is ready to be filled in.
pub(crate) struct Route {
    pub(crate) method: Method,
    path: Text,
    fixed: HeaderMap,
    varying: Vec<(HeaderName, Text)>,
    body: Option<Text>,
    sign: Option<(HeaderName, Hmac<Sha256>)>,
    /// The values that it names.
    names: BTreeSet<String>,
}

impl Route {
    fn new(address: SocketAddr, values: &BTreeMap<String, Vec<String>>, template: Template) -> Result<Self> {
        let Template { method, path, headers, body, sign } = template;
        let texts: Vec<_> = headers.values().chain(&body).chain([&path]).collect();
        let is_named = |name: &&String| texts.iter().any(|text| text.contains(&format!("{{{name}}}")));
        let names = values.keys().filter(is_named).cloned().collect();
        let mut fixed = HeaderMap::from_iter([(HOST, HeaderValue::from_str(&address.to_string())?)]);
        let mut varying = Vec::new();
        for (name, text) in headers {
            let (name, text) = (HeaderName::try_from(name)?, Text::parse(&text, values));
            match text.constant() {
                Some(value) => drop(fixed.insert(name, HeaderValue::from_str(value)?)),
                None => varying.push((name, text)),
            }
        }
        Ok(Self {
            method: method.parse()?,
            path: Text::parse(&path, values),
            fixed,
            varying,
            body: body.map(|body| Text::parse(&body, values)),
            sign: sign.map(|(header, secret)| anyhow::Ok((header.parse()?, Hmac::new_from_slice(secret.as_bytes())?))).transpose()?,
            names,
        })
    }

    /// Whether requests differ by this value.
    pub(crate) fn names(&self, value: &str) -> bool {
        self.names.contains(value)
    }

    /// The next request.
    pub(crate) fn request(&self) -> Result<Request<Full<Bytes>>> {
        let body = Bytes::from(self.body.as_ref().map(Text::fill).unwrap_or_default());
        let mut headers = self.fixed.clone();
        for (name, text) in &self.varying {
            headers.insert(name, HeaderValue::try_from(text.fill())?);
        }
        if let Some((name, mac)) = &self.sign {
            let signature = faster_hex::hex_string(&mac.clone().chain_update(&body).finalize().into_bytes());
            headers.insert(name, HeaderValue::try_from(signature)?);
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = self.path.fill().try_into()?;
        *request.headers_mut() = headers;
        Ok(request)
    }

    /// A script for `wrk`, which knows the same templates for as long as they have no body.
    pub(crate) fn wrk_script(&self) -> Option<String> {
        use std::fmt::Write as _;

        if self.method != Method::GET || self.body.is_some() || !self.varying.is_empty() {
            return None;
        }
        // Without it each run would ask for the same, in the same order.
        let mut script = format!("math.randomseed({})\n", fastrand::u32(..));
        for (name, value) in self.fixed.iter().filter(|(name, _)| *name != HOST) {
            let _ = writeln!(script, "wrk.headers[{:?}] = {:?}", name.as_str(), value.to_str().ok()?);
        }
        let mut path = Vec::new();
        for (place, part) in self.path.0.iter().enumerate() {
            match part {
                Part::Fixed(text) => path.push(format!("{text:?}")),
                Part::OneOf(values) => {
                    // In one text, since a script may have no more than 65536 constants.
                    let _ = writeln!(script, "local values{place} = {{}}");
                    let _ = writeln!(script, "for value in ({:?}):gmatch('[^\\n]+') do", values.join("\n"));
                    let _ = writeln!(script, "  values{place}[#values{place} + 1] = value\nend");
                    path.push(format!("values{place}[math.random(#values{place})]"));
                }
                Part::Unique => return None,
            }
        }
        let _ = writeln!(script, "request = function() return wrk.format(nil, {}) end", path.join(" .. "));
        Some(script)
    }
}

/// A template of a text.
struct Text(Vec<Part>);

enum Part {
    Fixed(String),
    OneOf(Vec<String>),
    Unique,
}

impl Text {
    /// Braces around anything but the name of a value stand for themselves, as they do in JSON.
    fn parse(text: &str, values: &BTreeMap<String, Vec<String>>) -> Self {
        let (mut parts, mut fixed, mut rest) = (Vec::new(), String::new(), text);
        while let Some((before, after)) = rest.split_once('{') {
            fixed.push_str(before);
            let part = after.split_once('}').and_then(|(name, behind)| match (name, values.get(name).map(Vec::as_slice)) {
                ("unique", _) => Some((Part::Unique, behind)),
                (_, Some([only])) => Some((Part::Fixed(only.clone()), behind)),
                (_, Some(choices)) => Some((Part::OneOf(choices.to_vec()), behind)),
                (_, None) => None,
            });
            match part {
                Some((Part::Fixed(text), behind)) => {
                    fixed.push_str(&text);
                    rest = behind;
                }
                Some((part, behind)) => {
                    parts.extend([Part::Fixed(std::mem::take(&mut fixed)), part]);
                    rest = behind;
                }
                None => {
                    fixed.push('{');
                    rest = after;
                }
            }
        }
        parts.push(Part::Fixed(fixed + rest));
        Self(parts)
    }

    fn constant(&self) -> Option<&str> {
        match &self.0[..] {
            [Part::Fixed(text)] => Some(text),
            _ => None,
        }
    }

    fn fill(&self) -> String {
        let mut text = String::with_capacity(128);
        for part in &self.0 {
            match part {
                Part::Fixed(fixed) => text.push_str(fixed),
                Part::OneOf(choices) => text.push_str(&choices[fastrand::usize(..choices.len())]),
                Part::Unique => text.extend(
                    std::iter::once('u')
                        .chain(std::iter::repeat_with(fastrand::alphanumeric).take(23))
                        .map(|letter| letter.to_ascii_lowercase()),
                ),
            }
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_in_braces_are_filled_in_and_other_braces_stay() {
        let values = BTreeMap::from([("one".to_owned(), vec!["1".to_owned()]), ("two".to_owned(), vec!["a".to_owned(), "b".to_owned()])]);
        let fill = |text| Text::parse(text, &values).fill();
        assert_eq!(fill("{\"a\": {\"b\": \"{one}\"}}"), "{\"a\": {\"b\": \"1\"}}");
        assert_eq!(Text::parse("Bearer {one}", &values).constant(), Some("Bearer 1"));
        assert!(["{a}", "{b}"].contains(&fill("{{two}}").as_str()));
        assert_eq!(fill("{unique}").len(), 24);
        assert_ne!(fill("{unique}"), fill("{unique}"));
        assert_eq!(fill("{"), "{");
    }
}
