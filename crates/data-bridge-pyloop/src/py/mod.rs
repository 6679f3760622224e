//! The edge to Python: references, cells, errors and cached imports.

pub mod bytes;
pub mod call;
pub mod cell;
pub mod errors;
pub mod imports;
pub mod names;
pub mod object;
pub mod types;
