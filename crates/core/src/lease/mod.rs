//! The lease that forbids two primaries.

pub mod record;
