//! The schemas of what is sent and answered.

use std::collections::BTreeMap;

use serde_json::Value;
use utoipa::{
    PartialSchema as _, ToSchema,
    openapi::{
        KnownFormat, Object, OneOfBuilder, Ref, RefOr, Schema, SchemaFormat, Type,
        schema::{ArrayItems, SchemaType},
    },
};

use super::bodies::Body;
use crate::fields;

/// What answers may lack. Whatever else an answer has is always there, if only as null.
const LEFT_OUT: [(&str, &str); 5] =
    [("Error", "details"), ("Health", "schemaVersion"), ("Health", "warning"), ("Issue", "signalPayload"), ("Page", "total")];

/// The schemas that the document refers to by name.
#[derive(Default)]
pub(crate) struct Schemas {
    /// What is answered.
    answers: BTreeMap<String, RefOr<Schema>>,
    /// What is sent.
    bodies: BTreeMap<String, RefOr<Schema>>,
}

impl Schemas {
    /// The schema of a type: objects and enumerations by their names, all others as they are.
    pub(crate) fn of<T: ToSchema>(&mut self) -> RefOr<Schema> {
        let mut parts = Vec::new();
        T::schemas(&mut parts);
        self.answers.extend(parts);
        let schema = T::schema();
        if !is_named(&schema) {
            return used(schema);
        }
        let name = T::name().into_owned();
        let reference = Ref::from_schema_name(&name).into();
        self.answers.insert(name, schema);
        reference
    }

    /// The schema of a body, which is what its reader reads.
    pub(crate) fn body<T: Body>(&mut self) -> RefOr<Schema> {
        if !self.bodies.contains_key(T::NAME) {
            let mut object = fields::describe::<T>(self);
            let row = properties(T::Row::schema());
            for (name, property) in &mut object.properties {
                let told = T::TOLD.iter().find(|(told, _)| told == name).map(|(_, text)| (*text).to_owned());
                if let Some(text) = told.or_else(|| row.get(name).and_then(description)) {
                    describe(property, text);
                }
            }
            self.bodies.insert(T::NAME.to_owned(), Schema::Object(object).into());
        }
        Ref::from_schema_name(T::NAME).into()
    }

    /// All of them, by name. What has no parts and is no enumeration stands where it is used.
    pub(crate) fn finish(self) -> impl Iterator<Item = (String, RefOr<Schema>)> {
        let (mut named, small): (BTreeMap<_, _>, BTreeMap<_, _>) = self.answers.into_iter().partition(|(_, schema)| is_named(schema));
        for (name, schema) in &mut named {
            settle(schema, &small);
            require_all(name, schema);
        }
        named.into_iter().chain(self.bodies)
    }
}

/// The same, or null.
pub(crate) fn nullable(schema: RefOr<Schema>) -> RefOr<Schema> {
    let or_null = |schema_type: &mut SchemaType| {
        if let SchemaType::Type(known) = schema_type {
            *schema_type = SchemaType::Array(vec![known.clone(), Type::Null]);
        }
    };
    match schema {
        RefOr::T(Schema::Object(mut object)) if object.enum_values.is_none() => {
            or_null(&mut object.schema_type);
            Schema::Object(object).into()
        }
        RefOr::T(Schema::Array(mut array)) => {
            or_null(&mut array.schema_type);
            Schema::Array(array).into()
        }
        other => OneOfBuilder::new().item(other).item(Object::with_type(Type::Null)).into(),
    }
}

/// Gives a schema another description.
pub(crate) fn describe(schema: &mut RefOr<Schema>, text: String) {
    match schema {
        RefOr::Ref(reference) => reference.description = text,
        RefOr::T(Schema::Object(object)) => object.description = Some(text).filter(|text| !text.is_empty()),
        RefOr::T(Schema::Array(array)) => array.description = Some(text),
        RefOr::T(Schema::OneOf(one_of)) => one_of.description = Some(text),
        RefOr::T(_) => {}
    }
}

fn description(schema: &RefOr<Schema>) -> Option<String> {
    match schema {
        RefOr::Ref(reference) => Some(reference.description.clone()).filter(|text| !text.is_empty()),
        RefOr::T(Schema::Object(object)) => object.description.clone(),
        RefOr::T(Schema::Array(array)) => array.description.clone(),
        // Where it is the first or null.
        RefOr::T(Schema::OneOf(one_of)) => one_of.items.first().and_then(description),
        RefOr::T(_) => None,
    }
}

/// The properties of an object, or of the objects that it is all of.
fn properties(schema: RefOr<Schema>) -> BTreeMap<String, RefOr<Schema>> {
    match schema {
        RefOr::T(Schema::Object(object)) => object.properties.into_iter().collect(),
        RefOr::T(Schema::AllOf(all_of)) => all_of.items.into_iter().flat_map(properties).collect(),
        _ => BTreeMap::new(),
    }
}

/// Whether a schema is worth a name: an object with properties, an enumeration, or something composed of others.
fn is_named(schema: &RefOr<Schema>) -> bool {
    match schema {
        RefOr::T(Schema::Object(object)) => object.enum_values.is_some() || !object.properties.is_empty(),
        RefOr::T(Schema::Array(_)) | RefOr::Ref(_) => false,
        RefOr::T(_) => true,
    }
}

/// A small schema where it is used: without what its type says to those who write Rust.
fn used(mut schema: RefOr<Schema>) -> RefOr<Schema> {
    match &mut schema {
        RefOr::T(Schema::Object(object)) => {
            object.description = None;
            // There is no format for `u32`.
            if object.format == Some(SchemaFormat::KnownFormat(KnownFormat::Int32))
                && object.minimum == Some(0.into())
                && object.maximum.is_none()
            {
                (object.format, object.maximum) = (None, Some(u32::MAX.into()));
            }
        }
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                **items = used(std::mem::take(items));
            }
        }
        _ => {}
    }
    schema
}

/// Puts the small schemas where they are referred to.
fn settle(schema: &mut RefOr<Schema>, small: &BTreeMap<String, RefOr<Schema>>) {
    match schema {
        RefOr::Ref(reference) => {
            let name = reference.ref_location.rsplit('/').next().unwrap_or_default();
            if let Some(found) = small.get(name) {
                let text = std::mem::take(&mut reference.description);
                *schema = used(found.clone());
                describe(schema, text);
            }
        }
        RefOr::T(Schema::Object(object)) => object.properties.values_mut().for_each(|property| settle(property, small)),
        RefOr::T(Schema::Array(array)) => {
            if let ArrayItems::RefOrSchema(items) = &mut array.items {
                settle(items, small);
            }
        }
        RefOr::T(Schema::AllOf(all_of)) => all_of.items.iter_mut().for_each(|item| settle(item, small)),
        RefOr::T(Schema::OneOf(one_of)) => {
            one_of.items.iter_mut().for_each(|item| settle(item, small));
            if let [other, RefOr::T(Schema::Object(null))] = one_of.items.as_slice()
                && null.schema_type == Type::Null.into()
            {
                *schema = nullable(other.clone());
            }
        }
        RefOr::T(_) => {}
    }
}

fn require_all(name: &str, schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            let left_out = |property: &str| LEFT_OUT.iter().any(|(kind, field)| name.ends_with(kind) && property == *field);
            let always = |property: &&String| !left_out(property);
            object.required = object.properties.keys().filter(always).cloned().collect();
        }
        RefOr::T(Schema::AllOf(all_of)) => all_of.items.iter_mut().for_each(|item| require_all(name, item)),
        _ => {}
    }
}

/// The same, with what is taken where nothing is given.
pub(crate) fn with_default(mut schema: RefOr<Schema>, default: Option<Value>) -> RefOr<Schema> {
    match &mut schema {
        RefOr::Ref(reference) => reference.default = default,
        RefOr::T(Schema::Object(object)) => object.default = default,
        RefOr::T(_) => {}
    }
    schema
}
