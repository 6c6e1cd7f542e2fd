//! The shapes of bodies, for the OpenAPI document and for clients written in Rust.
//!
//! Layer 1's bodies are read and written without these types (see [`crate::json`]); tests hold the two together.

mod data;
mod definition;

pub use data::{AttributeDto, AttributeValueDto, FileDto, InputDataPointDto, VectorDto};
pub use definition::{
    AutoCreateDto, AutoIndexDto, DataSourceDefinitionDto, IndexAlgorithmDto, IndexDefinitionDto, NameVersionDto,
    RetentionDto, ShardConditionDto, ShardDto, SharderDto, SubscriptionDto,
};
