//! The token file: read at start, and again whenever its content changes.
//!
//! The file is YAML with the keys `app` and `admin`. A file that cannot be used at start is an error; later the
//! tokens in force stay, and the reason is logged once a change.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde::Deserialize;

use crate::{
    api::middleware::auth::Tokens,
    disk::{self, Disk},
    lifecycle::Lifecycle,
};

const TOKEN_FILE_BYTES_MAX: usize = 64 * 1_024;
const TOKEN_BYTES_MIN: usize = 16;
const REREAD_EVERY: Duration = Duration::from_secs(5);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenFile {
    app: String,
    admin: String,
}

/// The tokens in force, kept up to date until the node stops. Without a file everybody may call.
pub(super) fn watch(
    disk: Arc<dyn Disk>,
    file: Option<&Path>,
    lifecycle: &Lifecycle,
) -> Result<Tokens, String> {
    let tokens = Tokens::default();
    let Some(file) = file.map(Path::to_path_buf) else {
        return Ok(tokens);
    };
    let text = read(&*disk, &file)?;
    apply(&tokens, &file, &text)?;
    lifecycle.tasks().spawn(reread(disk, file, text, tokens.clone(), lifecycle.clone()));
    Ok(tokens)
}

async fn reread(disk: Arc<dyn Disk>, file: PathBuf, mut text: String, tokens: Tokens, lifecycle: Lifecycle) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(REREAD_EVERY) => {}
            () = lifecycle.stop().cancelled() => return,
        }
        let now = read(&*disk, &file).unwrap_or_default();
        if now == text {
            continue;
        }
        match apply(&tokens, &file, &now) {
            Ok(()) => tracing::info!(file = %file.display(), "the token file has changed and is in force"),
            Err(error) => {
                tracing::error!(error, "the token file is ignored; the tokens before it stay in force");
            }
        }
        text = now;
    }
}

fn read(disk: &dyn Disk, file: &Path) -> Result<String, String> {
    let refused = |error: &dyn std::fmt::Display| format!("token file {}: {error}", file.display());
    let bytes = disk::read_file(disk, file, TOKEN_FILE_BYTES_MAX).map_err(|error| refused(&error))?;
    String::from_utf8(bytes).map_err(|error| refused(&error))
}

fn apply(tokens: &Tokens, file: &Path, text: &str) -> Result<(), String> {
    let parsed: TokenFile = serde_saphyr::from_str(text).map_err(|error| {
        let error = error.to_string().replace('\n', " ");
        format!("token file {}: expected the keys app and admin: {error}", file.display())
    })?;
    for (name, token) in [("app", &parsed.app), ("admin", &parsed.admin)] {
        if token.len() < TOKEN_BYTES_MIN {
            let (file, len) = (file.display(), token.len());
            return Err(format!(
                "token file {file}: {name}: expected at least {TOKEN_BYTES_MIN} bytes, found {len}"
            ));
        }
    }
    tokens.set(&parsed.app, &parsed.admin);
    Ok(())
}
