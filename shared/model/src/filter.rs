//! Filters: a boolean tree over the attributes of a point.

use std::cmp::Ordering;

use serde_json::{Map, Value};

use crate::attribute::{AttributeType, AttributeValue, Attributes};
use crate::error::ValidationError;
use crate::limits;
use crate::source::DataSource;
use crate::wire::WireAttributeValue;

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

impl CompareOp {
    /// Whether the comparison holds when the point's value stands to the filter's as `ordering`.
    pub fn holds(self, ordering: Ordering) -> bool {
        match self {
            Self::Eq => ordering.is_eq(),
            Self::Ne => ordering.is_ne(),
            Self::Lt => ordering.is_lt(),
            Self::Lte => ordering.is_le(),
            Self::Gt => ordering.is_gt(),
            Self::Gte => ordering.is_ge(),
        }
    }
}

impl Filter {
    /// From JSON, typed against the data source. The forms:
    /// `{"and": [F, …]}`, `{"or": [F, …]}`, `{"not": F}`,
    /// `{"eq": {"key": "k", "value": V}}` and likewise `ne lt lte gt gte startsWith`,
    /// `{"in": {"key": "k", "values": [V, …]}}`, `notIn`, `{"exists": {"key": "k"}}`,
    /// where `V` is an attribute value of the wire (`{"int64": 5}`) or plain JSON (`5`, `"x"`, `true`), read as the
    /// attribute's type. A filter object with several operators is their conjunction; one with none holds for every point.
    ///
    /// # Errors
    /// Unknown operator or attribute, value of the wrong type, `startsWith` on anything but a string, ordering a bool,
    /// or a tree beyond the limits of [`crate::limits`]; each message starts with the path to the fault.
    pub fn from_json(json: &Value, source: &DataSource) -> Result<Self, ValidationError> {
        Parser { source, nodes: 0 }.filter(json, "filter", 0).map_err(ValidationError::one)
    }

    /// Whether a point's attributes satisfy the filter. The reference; segments evaluate whole columns.
    pub fn matches(&self, attributes: &Attributes) -> bool {
        match self {
            Self::And(parts) => parts.iter().all(|part| part.matches(attributes)),
            Self::Or(parts) => parts.iter().any(|part| part.matches(attributes)),
            Self::Not(part) => !part.matches(attributes),
            Self::Compare { attribute, op, value } => {
                let ordering = attributes.get(attribute).and_then(|found| found.compare(value));
                ordering.is_some_and(|ordering| op.holds(ordering))
            }
            Self::In { attribute, values } => attributes.get(attribute).is_some_and(|found| values.contains(found)),
            Self::Exists { attribute } => attributes.contains_key(attribute),
            Self::StartsWith { attribute, prefix } => match attributes.get(attribute) {
                Some(AttributeValue::String(text)) => text.starts_with(prefix.as_str()),
                _ => false,
            },
        }
    }

    /// The attributes that the filter reads.
    pub fn attributes(&self) -> std::collections::BTreeSet<&str> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::attributes).collect(),
            Self::Not(part) => part.attributes(),
            Self::Compare { attribute, .. }
            | Self::In { attribute, .. }
            | Self::Exists { attribute }
            | Self::StartsWith { attribute, .. } => [attribute.as_str()].into(),
        }
    }
}

struct Parser<'a> {
    source: &'a DataSource,
    nodes: usize,
}

impl Parser<'_> {
    fn filter(&mut self, json: &Value, path: &str, depth: usize) -> Result<Filter, String> {
        if depth >= limits::FILTER_DEPTH {
            return Err(format!("{path}: nested deeper than {} levels", limits::FILTER_DEPTH));
        }
        let Value::Object(operators) = json else {
            return Err(format!("{path}: must be an object with an operator, such as {{\"eq\": …}}"));
        };
        if operators.is_empty() {
            self.count(path)?;
        }
        let mut parts = Vec::new();
        for (operator, operand) in operators {
            parts.push(self.operator(operator, operand, &format!("{path}.{operator}"), depth)?);
        }
        match parts.len() {
            1 => Ok(parts.remove(0)),
            _ => Ok(Filter::And(parts)),
        }
    }

    fn operator(&mut self, operator: &str, operand: &Value, path: &str, depth: usize) -> Result<Filter, String> {
        self.count(path)?;
        let compare = |op| self.compare(op, operand, path);
        match operator {
            "and" => Ok(Filter::And(self.list(operand, path, depth)?)),
            "or" => Ok(Filter::Or(self.list(operand, path, depth)?)),
            "not" => Ok(Filter::Not(Box::new(self.filter(operand, path, depth + 1)?))),
            "eq" => compare(CompareOp::Eq),
            "ne" => compare(CompareOp::Ne),
            "lt" => compare(CompareOp::Lt),
            "lte" => compare(CompareOp::Lte),
            "gt" => compare(CompareOp::Gt),
            "gte" => compare(CompareOp::Gte),
            "in" => self.membership(operand, path),
            "notIn" => Ok(Filter::Not(Box::new(self.membership(operand, path)?))),
            "exists" => {
                let (attribute, _) = self.attribute(fields(operand, path, &["key"])?, path)?;
                Ok(Filter::Exists { attribute })
            }
            "startsWith" => self.starts_with(operand, path),
            _ => Err(format!(
                "{path}: unknown operator; the operators are: and, or, not, eq, ne, lt, lte, gt, gte, in, notIn, exists, startsWith"
            )),
        }
    }

    fn count(&mut self, path: &str) -> Result<(), String> {
        self.nodes += 1;
        if self.nodes > limits::FILTER_NODES {
            return Err(format!("{path}: the filter has more than {} parts", limits::FILTER_NODES));
        }
        Ok(())
    }

    fn list(&mut self, operand: &Value, path: &str, depth: usize) -> Result<Vec<Filter>, String> {
        let Value::Array(parts) = operand else { return Err(format!("{path}: must be a list of filters")) };
        let part = |(i, part)| self.filter(part, &format!("{path}[{i}]"), depth + 1);
        parts.iter().enumerate().map(part).collect()
    }

    fn compare(&self, op: CompareOp, operand: &Value, path: &str) -> Result<Filter, String> {
        let fields = fields(operand, path, &["key", "value"])?;
        let (attribute, attribute_type) = self.attribute(fields, path)?;
        if attribute_type == AttributeType::Bool && !matches!(op, CompareOp::Eq | CompareOp::Ne) {
            return Err(format!("{path}: attribute '{attribute}' is a Bool, which has no order; use eq or ne"));
        }
        let value = value(field(fields, path, "value")?, attribute_type, &format!("{path}.value"))?;
        Ok(Filter::Compare { attribute, op, value })
    }

    fn membership(&self, operand: &Value, path: &str) -> Result<Filter, String> {
        let fields = fields(operand, path, &["key", "values"])?;
        let (attribute, attribute_type) = self.attribute(fields, path)?;
        let Value::Array(list) = field(fields, path, "values")? else {
            return Err(format!("{path}.values: must be a list of values"));
        };
        if list.len() > limits::FILTER_VALUES {
            return Err(format!("{path}.values: {} values; at most {} are allowed", list.len(), limits::FILTER_VALUES));
        }
        let typed = |(i, json)| value(json, attribute_type, &format!("{path}.values[{i}]"));
        let mut values = list.iter().enumerate().map(typed).collect::<Result<Vec<_>, _>>()?;
        // They have one type, and floats are finite: they always compare.
        values.sort_by(|a, b| a.compare(b).unwrap_or(Ordering::Equal));
        values.dedup();
        Ok(Filter::In { attribute, values })
    }

    fn starts_with(&self, operand: &Value, path: &str) -> Result<Filter, String> {
        let fields = fields(operand, path, &["key", "value"])?;
        let (attribute, attribute_type) = self.attribute(fields, path)?;
        if attribute_type != AttributeType::String {
            return Err(format!(
                "{path}: attribute '{attribute}' is of type {attribute_type}; startsWith needs a String"
            ));
        }
        match value(field(fields, path, "value")?, attribute_type, &format!("{path}.value"))? {
            AttributeValue::String(prefix) => Ok(Filter::StartsWith { attribute, prefix }),
            other => Err(format!("{path}.value: '{other}' is not a String")),
        }
    }

    fn attribute(&self, fields: &Map<String, Value>, path: &str) -> Result<(String, AttributeType), String> {
        let Value::String(key) = field(fields, path, "key")? else {
            return Err(format!("{path}.key: must be the key of an attribute"));
        };
        match self.source.attribute_types.get(key) {
            Some(&attribute_type) => Ok((key.clone(), attribute_type)),
            None => {
                let known: Vec<&str> = self.source.attribute_types.keys().map(String::as_str).collect();
                let key: String = key.chars().take(limits::ATTRIBUTE_KEY_BYTES).collect();
                Err(format!("{path}.key: attribute '{key}' is unknown; the attributes are: {}", known.join(", ")))
            }
        }
    }
}

/// The operand of a leaf operator, refusing fields that would otherwise be misspelled in silence.
fn fields<'a>(operand: &'a Value, path: &str, known: &[&str]) -> Result<&'a Map<String, Value>, String> {
    let Value::Object(fields) = operand else {
        return Err(format!("{path}: must be an object with {}", known.join(" and ")));
    };
    match fields.keys().find(|field| !known.contains(&field.as_str())) {
        Some(field) => Err(format!("{path}.{field}: unknown field; expected {}", known.join(" and "))),
        None => Ok(fields),
    }
}

fn field<'a>(fields: &'a Map<String, Value>, path: &str, name: &str) -> Result<&'a Value, String> {
    fields.get(name).ok_or_else(|| format!("{path}.{name}: is missing"))
}

/// A value of the wire or plain JSON, as the attribute's type.
fn value(json: &Value, attribute_type: AttributeType, path: &str) -> Result<AttributeValue, String> {
    let value = match json {
        Value::Object(fields) => {
            WireAttributeValue::from_json(fields).map_err(|error| format!("{path}: {error}"))?.typed(attribute_type)
        }
        plain => WireAttributeValue::from_plain(plain, attribute_type).and_then(|value| value.typed(attribute_type)),
    };
    let value = value.ok_or_else(|| {
        let shown: String = json.to_string().chars().take(100).collect();
        format!("{path}: {shown} is not a value of type {attribute_type}")
    })?;
    match value.problem() {
        Some(problem) => Err(format!("{path}: {problem}")),
        None => Ok(value),
    }
}

#[cfg(test)]
mod tests;
