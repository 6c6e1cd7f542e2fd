//! The timeline crate against its specification: formats, protocol, and what survives damage.

mod append;
mod codec;
mod columnar;
mod common;
mod golden;
mod group;
mod live;
mod sweep;
