//! The builder against a naive model, over memory stores: folding, building, racing, crashing, collecting, verifying.

mod build;
mod common;
mod crash;
mod fold;
mod gc;
mod hint;
mod races;
mod retention;
mod tasks;
mod verify;
