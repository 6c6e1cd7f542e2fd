//! Filters: a boolean tree over the attributes of a point.

use crate::attribute::{AttributeValue, Attributes};
use crate::error::ValidationError;
use crate::source::DataSource;

/// A filter, typed against a data source. Only a live, complete point is ever asked; every attribute has a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Filter {
    /// Every part holds; true when empty.
    And(Vec<Filter>),
    /// At least one part holds; false when empty.
    Or(Vec<Filter>),
    /// The part does not hold.
    Not(Box<Filter>),
    /// A comparison; the value has the attribute's type.
    Compare {
        /// The attribute's key.
        attribute: String,
        /// How.
        op: CompareOp,
        /// With what.
        value: AttributeValue,
    },
    /// The value is one of these, which have the attribute's type.
    In {
        /// The attribute's key.
        attribute: String,
        /// The values, sorted, unique.
        values: Vec<AttributeValue>,
    },
    /// The point has the attribute. True for every attribute of the data source.
    Exists {
        /// The attribute's key.
        attribute: String,
    },
    /// A string attribute begins with this.
    StartsWith {
        /// The attribute's key.
        attribute: String,
        /// The prefix.
        prefix: String,
    },
}

/// A comparison of a point's value (left) with the filter's (right).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CompareOp {
    /// Equal.
    Eq,
    /// Not equal.
    Ne,
    /// Less.
    Lt,
    /// Less or equal.
    Lte,
    /// Greater.
    Gt,
    /// Greater or equal.
    Gte,
}

impl Filter {
    /// From JSON, typed against the data source. The forms:
    /// `{"and": [F, …]}`, `{"or": [F, …]}`, `{"not": F}`,
    /// `{"eq": {"key": "k", "value": V}}` and likewise `ne lt lte gt gte startsWith`,
    /// `{"in": {"key": "k", "values": [V, …]}}`, `notIn`, `{"exists": {"key": "k"}}`,
    /// where `V` is an attribute value of the wire (`{"int64": 5}`) or plain JSON (`5`, `"x"`, `true`), read as the
    /// attribute's type. A filter object with several operators is their conjunction.
    ///
    /// # Errors
    /// Unknown operator or attribute, value of the wrong type, `startsWith` on anything but a string, ordering a bool,
    /// or a tree beyond the limits of [`crate::limits`]; each message starts with the path to the fault.
    pub fn from_json(json: &serde_json::Value, source: &DataSource) -> Result<Self, ValidationError> {
        let _ = (json, source);
        todo!()
    }

    /// Whether a point's attributes satisfy the filter. The reference; segments evaluate whole columns.
    pub fn matches(&self, attributes: &Attributes) -> bool {
        let _ = attributes;
        todo!()
    }
}
