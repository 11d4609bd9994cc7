//! Who this unit says it is: the `address` of `GET /`.

use std::{
    fs,
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};

use crate::settings::Settings;

/// Bytes of an identity, as of an Arweave address.
const IDENTITY_BYTES: usize = 32;
/// Its file in the data directory: the identity in base64url, a line.
const IDENTITY_FILE: &str = "identity";

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The wallet file cannot be read.
    #[error("wallet file {}: {source}", path.display())]
    WalletFile {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// The wallet is not an RSA JWK. Nothing of it is shown.
    #[error("the wallet from {origin} is not the JSON of an RSA JWK: {reason}")]
    Wallet {
        /// Setting or file.
        origin: String,
        /// What is missing.
        reason: &'static str,
    },
    /// The data directory cannot be used.
    #[error("cannot use data directory {}: {source}", path.display())]
    Data {
        /// The directory or a file in it.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
}

/// The address of the wallet the settings name; without one, a random identity that lives as long as the data directory.
///
/// Creates the data directory, so that an unusable one is found out before anything else starts.
pub fn address(settings: &Settings) -> Result<String, Error> {
    let data = |source| Error::Data { path: settings.data.clone(), source };
    fs::create_dir_all(&settings.data).map_err(data)?;
    tempfile::NamedTempFile::new_in(&settings.data).map_err(data)?;
    if let Some(wallet) = &settings.wallet {
        return of_wallet(&wallet.0, "setting `wallet`");
    }
    if let Some(path) = &settings.wallet_file {
        let text = fs::read_to_string(path).map_err(|source| Error::WalletFile { path: path.clone(), source })?;
        return of_wallet(&text, &format!("file {}", path.display()));
    }
    let path = settings.data.join(IDENTITY_FILE);
    kept_identity(&path).map_err(|source| Error::Data { path, source })
}

/// An Arweave address: base64url of SHA-256 of the RSA modulus.
fn of_wallet(jwk: &str, origin: &str) -> Result<String, Error> {
    let wrong = |reason| Error::Wallet { origin: origin.to_owned(), reason };
    let jwk: serde_json::Value = serde_json::from_str(jwk).map_err(|_| wrong("it is not JSON"))?;
    let modulus = jwk.get("n").and_then(|n| n.as_str()).ok_or_else(|| wrong("it has no modulus `n`"))?;
    let modulus = URL_SAFE_NO_PAD.decode(modulus).map_err(|_| wrong("`n` is not base64url"))?;
    if modulus.is_empty() {
        return Err(wrong("`n` is empty"));
    }
    Ok(URL_SAFE_NO_PAD.encode(Sha256::digest(&modulus)))
}

fn kept_identity(path: &Path) -> io::Result<String> {
    match fs::read_to_string(path) {
        Ok(text) => {
            let text = text.trim_end();
            let bytes = URL_SAFE_NO_PAD.decode(text).map_err(io::Error::other)?;
            if bytes.len() == IDENTITY_BYTES {
                Ok(text.to_owned())
            } else {
                Err(io::Error::other(format!("expected {IDENTITY_BYTES} bytes in base64url, found {}", bytes.len())))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut bytes = [0; IDENTITY_BYTES];
            fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
            let text = URL_SAFE_NO_PAD.encode(bytes);
            let mut file = tempfile::NamedTempFile::new_in(path.parent().unwrap_or(Path::new(".")))?;
            writeln!(file, "{text}")?;
            file.as_file().sync_all()?;
            file.persist(path).map_err(|error| error.error)?;
            Ok(text)
        }
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(data: &Path, more: &[(&'static str, &str)]) -> Settings {
        let mut all = vec![("data", data.to_str().unwrap())];
        all.extend(more);
        Settings::with(&all).unwrap()
    }

    #[test]
    fn a_wallet_s_address_is_the_hash_of_its_modulus() {
        let dir = tempfile::tempdir().unwrap();
        // SHA-256 of the bytes 01 02 03.
        let jwk = r#"{"kty":"RSA","e":"AQAB","n":"AQID"}"#;
        let expected = "A5BYxvLAy0ksUzsKTRTvd8wPeKvMztUofYShogEc-4E";
        let direct = settings(dir.path(), &[("wallet", jwk)]);
        assert_eq!(address(&direct).unwrap(), expected);
        let file = dir.path().join("wallet.json");
        fs::write(&file, jwk).unwrap();
        assert_eq!(address(&settings(dir.path(), &[("wallet_file", file.to_str().unwrap())])).unwrap(), expected);
    }

    #[test]
    fn without_a_wallet_the_identity_outlives_a_restart_and_differs_between_units() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = address(&settings(one.path(), &[])).unwrap();
        assert_eq!(first.len(), 43);
        assert_eq!(address(&settings(one.path(), &[])).unwrap(), first);
        assert_ne!(address(&settings(other.path(), &[])).unwrap(), first);
    }

    #[test]
    fn a_bad_wallet_is_an_error_that_shows_nothing_of_it() {
        let dir = tempfile::tempdir().unwrap();
        for jwk in ["hunter2", r#"{"d":"hunter2"}"#, r#"{"n":"hunter2 *"}"#, r#"{"n":""}"#] {
            let error = address(&settings(dir.path(), &[("wallet", jwk)])).unwrap_err().to_string();
            assert!(
                error.starts_with("the wallet from setting `wallet` is not") && !error.contains("hunter2"),
                "{error}"
            );
        }
        let error = address(&settings(dir.path(), &[("wallet_file", "/nonexistent/w.json")])).unwrap_err().to_string();
        assert!(error.starts_with("wallet file /nonexistent/w.json: No such file"), "{error}");
    }

    #[test]
    fn a_damaged_identity_or_an_unusable_directory_is_an_error_that_names_it() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(IDENTITY_FILE), "short").unwrap();
        let error = address(&settings(dir.path(), &[])).unwrap_err().to_string();
        assert!(error.contains("identity"), "{error}");
        let file = dir.path().join("file");
        fs::write(&file, "").unwrap();
        let error = address(&settings(&file.join("below"), &[])).unwrap_err().to_string();
        assert!(error.starts_with("cannot use data directory ") && error.contains("Not a directory"), "{error}");
    }
}
