//! Tests of the membership rules.
