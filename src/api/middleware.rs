//! What every call passes before its handler.

pub(crate) mod access;
pub(crate) mod auth;
pub(crate) mod trace;
