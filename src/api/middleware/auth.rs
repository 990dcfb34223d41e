//! Bearer tokens: who may call at all.
//!
//! Without a token file the listener is a loopback one and everybody on it may call. With one, every call of our own
//! services carries `authorization: Bearer TOKEN`, where TOKEN is the file's `app` or `admin` token. Tokens are
//! compared by their digests, so that time tells nothing. Calls that only administrators may make ask `require_admin`.
//! Does not know where the file is or when it changes.

use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};
use tonic::{Code, Request, Status, service::Interceptor};

use crate::api::status::Refusal;

/// The tokens in force; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens(Arc<RwLock<Option<[Known; 2]>>>);

/// A token's digest, and as what it lets its bearer call.
type Known = ([u8; 32], Role);

/// As what somebody calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The service.
    App,
    /// Its operators; everybody, where no token is asked for.
    Admin,
}

/// Refuses a call that is not made as an administrator.
pub(crate) fn require_admin<T>(request: &Request<T>) -> Result<(), Status> {
    if request.extensions().get() == Some(&Role::Admin) {
        return Ok(());
    }
    let message = "only administrators may do this: expected the token `admin` of the node's token file";
    Err(Refusal::new(Code::PermissionDenied, "ADMIN_REQUIRED", message).into())
}

impl Tokens {
    /// From now on only these tokens may call.
    pub(crate) fn set(&self, app: &str, admin: &str) {
        // Where both are the same text, it is the administrators'.
        let digests = [(admin, Role::Admin), (app, Role::App)].map(|(token, role)| (digest(token), role));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(digests);
    }

    fn admit(&self, presented: Option<&str>) -> Option<Role> {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            None => Some(Role::Admin),
            Some(digests) => {
                let presented = digest(presented?);
                digests.iter().find(|(digest, _)| *digest == presented).map(|(_, role)| *role)
            }
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

impl Interceptor for Tokens {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if let Some(role) = self.admit(header.and_then(|value| value.strip_prefix("Bearer "))) {
            request.extensions_mut().insert(role);
            return Ok(request);
        }
        let message = match header {
            None => {
                "expected the header `authorization: Bearer TOKEN` with a token of the node's token file, found none"
            }
            Some(_) => "the token is not one of the node's token file; ask for the token in force",
        };
        Err(Refusal::new(Code::Unauthenticated, "UNAUTHENTICATED", message).into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tokens_in_force_are_admitted() {
        let tokens = Tokens::default();
        assert_eq!(tokens.admit(None), Some(Role::Admin));
        tokens.set("app-secret", "admin-secret");
        assert_eq!(tokens.admit(Some("app-secret")), Some(Role::App));
        assert_eq!(tokens.admit(Some("admin-secret")), Some(Role::Admin));
        assert_eq!(tokens.admit(Some("app-secre")), None);
        assert_eq!(tokens.admit(None), None);
        tokens.set("same", "same");
        assert_eq!(tokens.admit(Some("app-secret")), None);
        assert_eq!(tokens.admit(Some("same")), Some(Role::Admin));
    }

    #[test]
    fn some_calls_are_for_administrators() {
        let mut tokens = Tokens::default();
        let request = |token: &str| {
            let mut request = Request::new(());
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
            request
        };
        assert!(require_admin(&tokens.call(request("any")).unwrap()).is_ok());
        tokens.set("app-secret", "admin-secret");
        assert!(require_admin(&tokens.call(request("admin-secret")).unwrap()).is_ok());
        let refused = require_admin(&tokens.call(request("app-secret")).unwrap()).unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
        assert!(require_admin(&Request::new(())).is_err());
    }
}
