//! What every call passes before its handler.

pub(crate) mod auth;
