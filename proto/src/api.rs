//! Request and response bodies of the local API, a module for each family of calls.
//!
//! Requests reject unknown fields; answers may gain fields in later versions. The doc comments of these types are the
//! descriptions in the OpenAPI document, and their bounds are the bounds that the daemon checks.

use std::fmt::Display;

pub mod invites;
pub mod members;
pub mod messages;
pub mod peers;
pub mod readers;
pub mod rendezvous;
pub mod status;
pub mod tokens;
pub mod web;

/// Why a number of a request is invalid. Nothing was changed; retry with a number in the range.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{field}' is {given}: expected {min} to {max}")]
pub struct RangeError {
    field: &'static str,
    given: String,
    min: String,
    max: String,
}

/// The number of a request's field, or the default if the field is absent.
///
/// # Errors
/// [`RangeError`] if the number is outside of the range, bounds included.
pub fn in_range<N: PartialOrd + Display>(
    field: &'static str,
    given: Option<N>,
    (min, max): (N, N),
    default: N,
) -> Result<N, RangeError> {
    match given {
        None => Ok(default),
        Some(number) if number >= min && number <= max => Ok(number),
        Some(number) => {
            Err(RangeError { field, given: number.to_string(), min: min.to_string(), max: max.to_string() })
        }
    }
}
