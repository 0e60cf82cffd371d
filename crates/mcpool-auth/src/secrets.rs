//! Reading a configured secret.

use mcpool_core::{Error, ErrorKind, Masker, Result, Secret, SecretSource, Sensitivity};

/// How large a file with a key, a token or an assertion may be.
const MAX_SECRET: u64 = 1024 * 1024;

/// Reads a configured secret, and has it masked from then on. `what` is its name in errors, which
/// show nothing of it.
pub(crate) async fn read_secret(
    source: &SecretSource,
    what: &str,
    masker: &Masker,
) -> Result<Secret> {
    let secret = read(source, what).await?;
    masker.add(secret.expose(), Sensitivity::Secret);
    Ok(secret)
}

async fn read(source: &SecretSource, what: &str) -> Result<Secret> {
    let missing = |why: String| Error::new(ErrorKind::InvalidSpec, format!("{what}: {why}"));
    let text = match source {
        SecretSource::Value(secret) => return Ok(secret.clone()),
        SecretSource::Env(name) => std::env::var(name)
            .map_err(|_| missing(format!("the variable {name} is not set, or is not text")))?,
        SecretSource::File(path) => {
            let file = path.clone();
            let read = move || mcpool_files::read_regular(&file, MAX_SECRET);
            let unread = |why: &dyn std::fmt::Display| {
                missing(format!("the file {} cannot be read: {why}", path.display()))
            };
            let bytes = tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| unread(&"it was cancelled").with_source(error))?
                .map_err(|error| unread(&error))?;
            // The error would quote the bytes.
            String::from_utf8(bytes).map_err(|_| unread(&"it is not UTF-8"))?
        }
        _ => return Err(missing("this kind of source is not supported".to_owned())),
    };
    let text = text.trim();
    if text.is_empty() {
        return Err(missing("it is empty".to_owned()));
    }
    Ok(Secret::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn failure(source: SecretSource) -> String {
        let error = read_secret(&source, "the client secret", &Masker::new())
            .await
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidSpec);
        let text = format!("{error:?} {error}");
        assert!(!text.contains("canary"), "{text}");
        assert!(text.contains("the client secret"), "{text}");
        text
    }

    #[tokio::test]
    async fn secrets_come_from_files_and_say_which_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        let read = SecretSource::File(file.clone());
        std::fs::write(&file, "  s3cret-of-ours\n").unwrap();
        let masker = Masker::new();
        let secret = read_secret(&read, "x", &masker).await.unwrap();
        assert_eq!(secret.expose(), "s3cret-of-ours");
        let masked = masker.mask("no s3cret-of-ours", Sensitivity::Secret);
        assert_eq!(masked, "no [redacted]");
        std::fs::write(&file, " \n").unwrap();
        assert!(failure(read.clone()).await.contains("it is empty"));
        std::fs::write(&file, b"canary\xff").unwrap();
        assert!(failure(read.clone()).await.contains("not UTF-8"));
        std::fs::write(&file, "canary".repeat(200_000)).unwrap();
        assert!(failure(read.clone()).await.contains("larger than"));
        let folder = SecretSource::File(folder.path().to_owned());
        assert!(failure(folder).await.contains("it is a directory"));
        let none = SecretSource::File(file.with_file_name("none"));
        assert!(failure(none).await.contains("cannot be read"));
        let unset = SecretSource::Env("MCPOOL_NO_SUCH_VARIABLE".into());
        assert!(failure(unset).await.contains("MCPOOL_NO_SUCH_VARIABLE"));
    }
}
