//! Bearer tokens: who may call at all.
//!
//! Without a token file the listener is a loopback one and everybody on it may call. With one, every call of our own
//! services carries `authorization: Bearer TOKEN`, where TOKEN is the file's `app` or `admin` token. Tokens are
//! compared by their digests, so that time tells nothing. Does not know where the file is or when it changes.

use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};
use tonic::{Code, Request, Status, service::Interceptor};

use crate::api::status::Refusal;

/// The tokens in force; clones share them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens(Arc<RwLock<Option<Vec<[u8; 32]>>>>);

impl Tokens {
    /// From now on only these tokens may call.
    pub(crate) fn set<'a>(&self, tokens: impl IntoIterator<Item = &'a str>) {
        let digests = tokens.into_iter().map(|token| Sha256::digest(token).into()).collect();
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(digests);
    }

    fn admit(&self, presented: Option<&str>) -> bool {
        match &*self.0.read().unwrap_or_else(PoisonError::into_inner) {
            None => true,
            Some(digests) => presented.is_some_and(|token| {
                let digest: [u8; 32] = Sha256::digest(token).into();
                digests.contains(&digest)
            }),
        }
    }
}

impl Interceptor for Tokens {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        let header = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        if self.admit(header.and_then(|value| value.strip_prefix("Bearer "))) {
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
        assert!(tokens.admit(None));
        tokens.set(["app-secret", "admin-secret"]);
        assert!(tokens.admit(Some("app-secret")));
        assert!(tokens.admit(Some("admin-secret")));
        assert!(!tokens.admit(Some("app-secre")));
        assert!(!tokens.admit(None));
        tokens.set(["other"]);
        assert!(!tokens.admit(Some("app-secret")));
    }
}
