//! JSON schemas of the types that JSON shows as text of one form.

/// Implements [`schemars::JsonSchema`] for such a type, with a description and the keywords that say which form.
macro_rules! text_schema {
    ($name:ident, $about:expr, $key:literal: $value:expr) => {
        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({"type": "string", "description": $about, $key: $value})
            }
        }
    };
}

pub(crate) use text_schema;
