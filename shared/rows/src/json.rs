//! JSON in and out, as Vektonn's server reads and writes it: property names without regard to case, unknown properties
//! ignored, numbers accepted in strings, `null` as absent, the last of repeated properties wins.

mod reader;
mod values;

pub use reader::{JsonError, Kind, Reader};
pub use values::{Wire, read_attributes, read_tree, read_value, read_vector};
