//! What the OpenAPI document says of bodies and parameters is what the server takes: each is tried, at its bounds and beyond them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use crate::{
    openapi::{Operation, document, operations, resolve},
    support::{Caller, TestApp},
};

/// A place within a body: puts a value there.
type Place<'a> = &'a dyn Fn(Value) -> Value;

/// Values of a schema, each with whether it fits.
fn probes(document: &Value, schema: &Value) -> Vec<(Value, bool)> {
    let of_type = |name: &str| schema["type"] == name || schema["type"].as_array().is_some_and(|types| types.contains(&json!(name)));
    let mut probes = vec![(Value::Null, of_type("null"))];
    if let Some(choices) = schema["oneOf"].as_array() {
        probes = vec![(Value::Null, choices.contains(&json!({ "type": "null" })))];
        return probes;
    }
    let schema = resolve(document, schema);
    let text = |length: u64| json!("ä".repeat(usize::try_from(length).unwrap()));
    if let Some(words) = schema["enum"].as_array() {
        probes.extend(words.iter().map(|word| (word.clone(), true)));
        probes.extend([(json!("nonsense"), false), (json!(1), false)]);
    } else if schema["format"] == "date-time" {
        let (fit, unfit) =
            (["2030-01-31T12:00:00Z", "2030-01-31T12:00:00.123+01:00"], ["", "tomorrow", "2030-01-31", "2030-13-01T12:00:00Z"]);
        probes.extend(fit.map(|time| (json!(time), true)));
        probes.extend(unfit.map(|time| (json!(time), false)));
    } else if schema["type"] == "string" || of_type("string") {
        probes.extend([(json!(1), false), (json!([]), false)]);
        match schema["pattern"].as_str() {
            Some("^[^\\u0000]*$") => {
                probes.push((json!("a\0b"), false));
                let (least, most) = (schema["minLength"].as_u64().unwrap(), schema["maxLength"].as_u64());
                probes.extend([(text(least), true), (text(most.unwrap_or(5000)), true)]);
                probes.extend(most.map(|most| (text(most + 1), false)));
                probes.extend((least > 0).then(|| (json!(""), false)));
            }
            Some(pattern) => {
                let fit = ["abc", "a1", "a-1", "1", "a--b", "A", "-a", "", "a b", "a\n"];
                let is_id = |text: &str| {
                    text.len() > 1 && text.starts_with(|char: char| char.is_ascii_lowercase()) && !text.contains(['-', ' ', '\n'])
                };
                let is_slug = |text: &str| {
                    !text.is_empty()
                        && text
                            .split('-')
                            .all(|word| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()))
                };
                let fits: &dyn Fn(&str) -> bool = match pattern {
                    "^[a-z][a-z0-9]{1,31}$" => &is_id,
                    "^[a-z0-9]+(-[a-z0-9]+)*$" => &is_slug,
                    other => panic!("no probes for {other}"),
                };
                probes.extend(fit.map(|text| (json!(text), fits(text))));
            }
            None => {}
        }
    } else if of_type("integer") || of_type("number") {
        probes.extend([(json!("1"), false), (json!([]), false)]);
        let (least, most) = (schema["minimum"].as_i64(), schema["maximum"].as_i64());
        probes.extend(least.iter().flat_map(|least| [(json!(least), true), (json!(least - 1), false)]));
        probes.extend(most.iter().flat_map(|most| [(json!(most), true), (json!(most + 1), false)]));
        probes.push((json!(0.5), of_type("number")));
        probes.extend(least.map(|least| (json!(f64::from(i32::try_from(least).unwrap())), true)));
    } else if of_type("array") {
        probes.extend([
            (json!({}), false),
            (json!(["\0"]), false),
            (json!([]), schema["minItems"].as_u64().is_none_or(|least| least == 0)),
        ]);
    } else if of_type("object") {
        probes.extend([(json!([]), false), (json!("a"), false)]);
        // One that has no fields of its own is for anything.
        if schema["properties"].is_null() {
            probes.extend([(json!({}), true), (json!({ "a": { "b": [1, null] } }), true), (json!({ "a": "\0" }), false)]);
        }
    } else {
        panic!("no probes for {schema}");
    }
    probes
}

/// The fields of a body that are wrong.
async fn wrong(admin: &Caller, operation: &Operation<'_>, body: &Value) -> BTreeMap<String, Vec<String>> {
    let answer = admin.call(&operation.method, &operation.path_to_nothing(), Some(body)).await;
    assert_eq!(answer.status, 422, "{} {} {body}: {}", operation.method, operation.path, answer.text);
    serde_json::from_value(answer.json()["details"]["fieldErrors"].clone()).unwrap()
}

/// Tries everything that is said of an object, which is at this place of the body and whose fields' names begin so.
async fn check_object(
    admin: &Caller,
    document: &Value,
    operation: &Operation<'_>,
    schema: &Value,
    place: Place<'_>,
    prefix: &str,
) -> usize {
    let schema = resolve(document, schema);
    let name = |field: &str| format!("{prefix}{field}");
    let properties = schema["properties"].as_object().unwrap();
    assert_eq!(schema["additionalProperties"], false, "{} {}", operation.method, operation.path);

    // Something unknown is in each, so that nothing is ever created or changed.
    let unknown = "noSuchField";
    let required: BTreeSet<String> =
        schema["required"].as_array().into_iter().flatten().map(|field| name(field.as_str().unwrap())).collect();
    let errors = wrong(admin, operation, &place(json!({ unknown: 1 }))).await;
    let (unknowns, missing): (Vec<_>, Vec<_>) =
        errors.into_iter().filter(|(field, _)| field.starts_with(prefix)).partition(|(field, _)| *field == name(unknown));
    assert_eq!(unknowns, [(name(unknown), vec!["Unknown field".to_owned()])]);
    assert!(missing.iter().all(|(_, reasons)| reasons == &["Required"]), "{missing:?}");
    assert_eq!(missing.into_iter().map(|(field, _)| field).collect::<BTreeSet<_>>(), required, "{} {}", operation.method, operation.path);

    let mut tried = 0;
    for (field, says) in properties {
        for (value, fits) in probes(document, says) {
            let errors = wrong(admin, operation, &place(json!({ unknown: 1, field: value }))).await;
            let complaints: Vec<_> = errors.iter().filter(|(wrong, _)| wrong.starts_with(&name(field))).collect();
            assert_eq!(complaints.is_empty(), fits, "{} {}: {} = {value}: {complaints:?}", operation.method, operation.path, name(field));
            tried += 1;
        }
        // What has fields of its own is looked into.
        let inner = [says, &says["oneOf"][0], &says["items"]].into_iter().find(|inner| !resolve(document, inner)["properties"].is_null());
        if let Some(inner) = inner {
            let many = says["items"].is_object();
            let inside = |value: Value| place(json!({ unknown: 1, field: if many { json!([value]) } else { value } }));
            let prefix = if many { format!("{}[0].", name(field)) } else { format!("{}.", name(field)) };
            tried += Box::pin(check_object(admin, document, operation, inner, &inside, &prefix)).await;
        }
    }
    tried
}

#[tokio::test]
async fn bodies_are_read_as_they_are_documented() {
    let (_app, admin) = TestApp::with_admin().await;
    let document = document(&admin).await;
    let (mut bodies, mut tried) = (0, 0);
    for operation in operations(&document).iter().filter(|operation| operation.path.starts_with("/api/")) {
        let Some(schema) = operation.body() else { continue };
        let schema = schema["oneOf"].get(0).unwrap_or(schema);
        tried += check_object(&admin, &document, operation, schema, &|value| value, "").await;
        bodies += 1;
    }
    assert!(bodies >= 18 && tried > 500, "{bodies} bodies, {tried} values");
}

#[tokio::test]
async fn a_batch_is_an_object_or_a_list() {
    let (_app, admin) = TestApp::with_admin().await;
    let document = document(&admin).await;
    let operations = operations(&document);
    let operation = operations.iter().find(|operation| operation.says["operationId"] == "ingestSignals").unwrap();
    let choices = operation.body().unwrap()["oneOf"].as_array().unwrap();
    let list = &choices[1];
    assert_eq!(resolve(&document, &choices[0])["properties"]["signals"]["maxItems"], list["maxItems"]);
    let signals = |count: u64| (0..count).map(|_| json!({ "source": "s", "type": "t" })).collect::<Value>();
    let most = list["maxItems"].as_u64().unwrap();
    for (count, status) in [(list["minItems"].as_u64().unwrap() - 1, 422), (1, 201), (most, 201), (most + 1, 422)] {
        for body in [signals(count), json!({ "signals": signals(count) })] {
            assert_eq!(admin.post("/api/v1/signals/batch", body).await.status, status, "{count}");
        }
    }
}

#[tokio::test]
async fn parameters_are_read_as_they_are_documented() {
    let (_app, reader) = TestApp::with_admin().await;
    let document = document(&reader).await;
    let mut tried = 0;
    for operation in operations(&document).iter().filter(|operation| operation.path.starts_with("/api/")) {
        let parameters = operation.parameters("query");
        let ask = async |query: &[(&str, &str)]| {
            let query = form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            let answer = reader.get(format!("{}?{query}", operation.path_to_nothing())).await;
            let errors: BTreeMap<String, Vec<String>> = match answer.status {
                422 => serde_json::from_value(answer.json()["details"]["fieldErrors"].clone()).unwrap(),
                _ => BTreeMap::new(),
            };
            (answer.status, errors)
        };
        if parameters.is_empty() {
            continue;
        }
        let (_, errors) = ask(&[("noSuchParameter", "1")]).await;
        assert_eq!(errors, BTreeMap::from([("noSuchParameter".to_owned(), vec!["Unknown parameter".to_owned()])]));
        for parameter in parameters {
            let (name, schema) = (parameter["name"].as_str().unwrap(), &parameter["schema"]);
            assert_eq!(parameter["required"], false);
            let probed = match schema["type"].as_str() {
                Some("array") => probes(&document, &schema["items"]),
                Some("boolean") => vec![(json!("true"), true), (json!("false"), true), (json!("1"), false), (json!(""), false)],
                _ if name == "cursor" => vec![(json!(""), true)],
                _ if name == "metadata" => {
                    vec![(json!("{}"), true), (json!("{\"tags\":[]}"), true), (json!("[]"), false), (json!("a"), false)]
                }
                _ => probes(&document, schema),
            };
            for (value, fits) in probed {
                // In a query everything is text: a number is written in digits, and other types are not there.
                let whole = resolve(&document, schema)["type"] == "integer";
                let text = match &value {
                    Value::String(text) if !whole => text.clone(),
                    Value::Number(number) if whole && !(fits && number.is_f64()) => number.to_string(),
                    _ => continue,
                };
                let (_, errors) = ask(&[(name, &text), ("noSuchParameter", "1")]).await;
                assert_eq!(!errors.contains_key(name), fits, "{}: {name}={text}: {errors:?}", operation.path);
                tried += 1;
            }
            if schema["type"] == "array" {
                let words = resolve(&document, &schema["items"])["enum"].as_array().unwrap();
                let all = words.iter().map(|word| word.as_str().unwrap()).collect::<Vec<_>>().join(",");
                let (_, errors) = ask(&[(name, &all), (name, words[0].as_str().unwrap()), ("noSuchParameter", "1")]).await;
                assert!(!errors.contains_key(name), "{errors:?}");
                assert_eq!((&parameter["style"], &parameter["explode"]), (&json!("form"), &json!(false)));
            }
        }
    }
    assert!(tried > 150, "{tried}");
}
