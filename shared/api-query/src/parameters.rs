//! What the routes that read points take in their query strings: which points, and of which state.

use tarn_api::ApiError;
use tarn_api::json::{Reader, read_attributes, read_tree};
use tarn_model::{Attributes, DataSource, Filter, Index, check_wire_split_filter};
use tarn_search::Consistency;

/// Which points of an index, and of which state.
#[derive(Clone, Debug, Default)]
pub(crate) struct Points {
    pub(crate) split_filter: Attributes,
    pub(crate) filter: Option<Filter>,
    pub(crate) consistency: Consistency,
    pub(crate) as_of: Option<u64>,
}

impl Points {
    /// Takes a parameter, if it is one of these; says whether it was.
    pub(crate) fn take(
        &mut self,
        name: &str,
        value: &str,
        index: &Index,
        source: &DataSource,
    ) -> Result<bool, ApiError> {
        match name {
            "splitFilter" => {
                let mut reader = Reader::new(value.as_bytes())?;
                let filter = read_attributes(&mut reader)?;
                reader.end()?;
                self.split_filter = check_wire_split_filter(source, index, &filter)?;
            }
            "filter" => {
                let mut reader = Reader::new(value.as_bytes())?;
                let tree = read_tree(&mut reader)?;
                reader.end()?;
                self.filter = Some(Filter::from_json(&tree, source)?);
            }
            "consistency" => self.consistency = consistency(value)?,
            "asOf" => self.as_of = Some(generation(name, value)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

pub(crate) fn consistency(text: &str) -> Result<Consistency, ApiError> {
    match text {
        text if text.eq_ignore_ascii_case("strong") => Ok(Consistency::Strong),
        text if text.eq_ignore_ascii_case("eventual") => Ok(Consistency::Eventual),
        _ => Err(ApiError::invalid("consistency must be 'strong' or 'eventual'")),
    }
}

pub(crate) fn generation(name: &str, text: &str) -> Result<u64, ApiError> {
    let number = text.parse().ok().filter(|&number| number > 0);
    number.ok_or_else(|| ApiError::invalid(format!("{name} must be the number of a generation, from 1")))
}

pub(crate) fn flag(name: &str, text: &str) -> Result<bool, ApiError> {
    let flag = text.to_ascii_lowercase().parse();
    flag.map_err(|_| ApiError::invalid(format!("{name} must be true or false")))
}
