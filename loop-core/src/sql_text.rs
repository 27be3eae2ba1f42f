//! Carrying types whose form on the wire is text, so that no statement ever names a type of the schema's own.

/// Implements the driver's traits and [`Param`](crate::store::Param) for a type that is text in SQL.
macro_rules! sql_text {
    ($name:ident, |$value:ident| $to:expr, |$text:ident| $from:expr) => {
        impl postgres_types::ToSql for $name {
            fn to_sql(
                &self,
                _: &postgres_types::Type,
                out: &mut bytes::BytesMut,
            ) -> Result<postgres_types::IsNull, Box<dyn std::error::Error + Sync + Send>> {
                let $value = self;
                let text: &str = $to;
                out.extend_from_slice(text.as_bytes());
                Ok(postgres_types::IsNull::No)
            }

            fn accepts(ty: &postgres_types::Type) -> bool {
                <&str as postgres_types::ToSql>::accepts(ty)
            }

            postgres_types::to_sql_checked!();
        }

        impl<'a> postgres_types::FromSql<'a> for $name {
            fn from_sql(ty: &postgres_types::Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
                let $text = <&str as postgres_types::FromSql>::from_sql(ty, raw)?;
                $from.map_err(Into::into)
            }

            fn accepts(ty: &postgres_types::Type) -> bool {
                <&str as postgres_types::FromSql>::accepts(ty)
            }
        }

        impl $crate::store::Param for $name {
            const TYPE: postgres_types::Type = postgres_types::Type::TEXT;
            const ARRAY: postgres_types::Type = postgres_types::Type::TEXT_ARRAY;
        }
    };
}
