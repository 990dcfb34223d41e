//! Bearer tokens: as what somebody calls.
//!
//! Without a token file everybody who reaches the listener calls as an administrator: it is a loopback one or a socket, or it asks
//! for client certificates. With one, a caller is who holds the file's `app` or `admin` token. Tokens are compared by their
//! digests, so that time tells nothing. Does not know what a role may call (`access`), where the file is or when it changes.

use std::sync::{Arc, PoisonError, RwLock};

use sha2::{Digest as _, Sha256};

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

impl Tokens {
    /// From now on only these tokens may call.
    pub(crate) fn set(&self, app: &str, admin: &str) {
        // Where both are the same text, it is the administrators'.
        let digests = [(admin, Role::Admin), (app, Role::App)].map(|(token, role)| (digest(token), role));
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = Some(digests);
    }

    /// As what the bearer of this token calls; none: as nobody.
    pub(super) fn admit(&self, presented: Option<&str>) -> Option<Role> {
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
}
