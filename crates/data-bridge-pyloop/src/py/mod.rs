//! The edge to Python: references, cells, errors and cached imports.

pub mod cell;
pub mod errors;
pub mod imports;
pub mod object;
