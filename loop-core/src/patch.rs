//! What a partial update says of one nullable column.

/// Keep, clear or set one nullable value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Patch<T> {
    /// Leave the value as it is.
    #[default]
    Keep,
    /// Make it null.
    Clear,
    /// Make it this.
    Set(T),
}

impl<T> Patch<T> {
    /// The same of another type.
    pub(crate) fn map<U>(self, set: impl FnOnce(T) -> U) -> Patch<U> {
        match self {
            Self::Keep => Patch::Keep,
            Self::Clear => Patch::Clear,
            Self::Set(value) => Patch::Set(set(value)),
        }
    }
}

impl<T> From<T> for Patch<T> {
    fn from(value: T) -> Self {
        Self::Set(value)
    }
}
