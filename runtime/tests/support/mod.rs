//! Runs a `Forward` on the prompts of a parity fixture, or an `Encode` on its texts, and compares what comes out with the
//! recorded references.

// Each test program uses its own part of this.
#![allow(dead_code)]

pub(crate) mod compare;
pub(crate) mod driver;
pub(crate) mod encoder;
pub(crate) mod fixture;
