//! The OpenAPI document. Nobody writes it: each extractor says what it takes, each answer what it is, and a route is registered together
//! with its name, so that what is served and what is documented are one list.

mod bodies;
mod described;
mod document;
mod operation;
mod routes;
mod schemas;
mod shared;

use utoipa::openapi::{ArrayBuilder, RefOr, Schema};

pub(crate) use self::{
    bodies::Body,
    described::BODY_ERRORS,
    operation::{OperationDoc, QueryParameter},
    routes::Routes,
    schemas::{Schemas, nullable, with_default},
};

/// What a handler takes or answers.
pub(crate) trait Described {
    /// Says so.
    fn describe(operation: &mut OperationDoc<'_>);
}

/// A handler all of whose arguments, and whose answer, say what they are. `T` are the arguments.
pub(crate) trait Documented<T> {
    /// Lets all of them say so.
    fn describe(operation: &mut OperationDoc<'_>);
}

macro_rules! documented {
    ($($argument:ident)*) => {
        impl<F, Answered, Answer, $($argument),*> Documented<($($argument,)*)> for F
        where
            F: FnOnce($($argument),*) -> Answered,
            Answered: Future<Output = Answer>,
            Answer: Described,
            $($argument: Described,)*
        {
            fn describe(operation: &mut OperationDoc<'_>) {
                $($argument::describe(operation);)*
                Answer::describe(operation);
            }
        }
    };
}

documented! {}
documented! { A }
documented! { A B }
documented! { A B C }
documented! { A B C D }
documented! { A B C D E }

/// What a field holds that has fields of its own.
pub(crate) trait Nested: Sized {
    /// Its schema.
    fn schema(schemas: &mut Schemas) -> RefOr<Schema>;
}

impl<T: Body> Nested for T {
    fn schema(schemas: &mut Schemas) -> RefOr<Schema> {
        schemas.body::<T>()
    }
}

impl<T: Body> Nested for Vec<T> {
    fn schema(schemas: &mut Schemas) -> RefOr<Schema> {
        ArrayBuilder::new().items(schemas.body::<T>()).into()
    }
}
