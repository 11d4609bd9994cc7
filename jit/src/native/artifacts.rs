//! Compiled code on disk.
//!
//! Loading machine code is trusting it, so an entry counts only if it carries a MAC under this directory's own key: a
//! torn, corrupt or foreign file is recompiled. The key keeps out accidents and strangers' files, not somebody who can
//! already write and read here.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::Error;

/// Changes whenever the rewriting of modules does.
const REWRITE_VERSION: u32 = 2;

/// Bytes of MAC in front of an entry.
const MAC_BYTES: usize = blake3::OUT_LEN;

/// A directory of compiled modules.
#[derive(Debug)]
pub struct Artifacts {
    dir: PathBuf,
    key: [u8; blake3::KEY_LEN],
}

impl Artifacts {
    /// Opens the directory, making it and its key if they are not there.
    ///
    /// # Errors
    /// [`Error::Host`] naming the path that cannot be used.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let failed =
            |path: &Path, e: io::Error| Error::host(&format!("cannot use {} for compiled code", path.display()), e);
        fs::create_dir_all(dir).map_err(|e| failed(dir, e))?;
        let path = dir.join("key");
        let key = match fs::read(&path) {
            Ok(bytes) if bytes.len() == blake3::KEY_LEN => bytes,
            Ok(_) | Err(_) => {
                let mut fresh = [0; blake3::KEY_LEN];
                io::Read::read_exact(
                    &mut fs::File::open("/dev/urandom").map_err(|e| failed(Path::new("/dev/urandom"), e))?,
                    &mut fresh,
                )
                .map_err(|e| failed(&path, e))?;
                write_aside(&path, &[&fresh]).map_err(|e| failed(&path, e))?;
                fresh.to_vec()
            }
        };
        let key = key.try_into().expect("the length was checked or made");
        Ok(Self { dir: dir.to_owned(), key })
    }

    /// Name of an entry: module bytes, metering, engine version and settings all go in.
    pub fn name(wasm_hash: &[u8; 32], metered: bool, engine: u64) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(wasm_hash);
        hasher.update(&[u8::from(metered)]);
        hasher.update(&engine.to_le_bytes());
        hasher.update(&REWRITE_VERSION.to_le_bytes());
        hasher.finalize().to_hex().to_string()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(format!("{name}.code"))
    }

    /// The code under `name`, if there is an entry that this directory's own unit wrote whole.
    pub fn get(&self, name: &str) -> Option<Vec<u8>> {
        let path = self.path(name);
        let bytes = fs::read(&path).ok()?;
        let (mac, code) = bytes.split_at_checked(MAC_BYTES)?;
        let wanted = self.mac(name, code);
        // blake3::Hash compares in constant time.
        if blake3::Hash::from_bytes(mac.try_into().ok()?) == wanted {
            return Some(code.to_vec());
        }
        tracing::warn!(path = %path.display(), "compiled code is corrupt or not ours; compiling again");
        None
    }

    /// Keeps `code`. A failure costs only the next start's time, so it is logged and no more.
    pub fn put(&self, name: &str, code: &[u8]) {
        let path = self.path(name);
        if let Err(error) = write_aside(&path, &[self.mac(name, code).as_bytes(), code]) {
            tracing::warn!(path = %path.display(), %error, "compiled code is not kept");
        }
    }

    fn mac(&self, name: &str, code: &[u8]) -> blake3::Hash {
        blake3::Hasher::new_keyed(&self.key).update(name.as_bytes()).update(code).finalize()
    }
}

/// Writes a file whole or not at all: beside its place, synced, then renamed.
fn write_aside(path: &Path, parts: &[&[u8]]) -> io::Result<()> {
    let aside = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut file = fs::File::create(&aside)?;
    for part in parts {
        io::Write::write_all(&mut file, part)?;
    }
    file.sync_all()?;
    fs::rename(&aside, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_with_one_bit_changed_is_not_given_back() {
        let dir = tempfile::tempdir().expect("a directory");
        let artifacts = Artifacts::open(dir.path()).expect("artifacts");
        artifacts.put("a", b"machine code");
        assert_eq!(artifacts.get("a").as_deref(), Some(&b"machine code"[..]));
        let path = artifacts.path("a");
        let mut bytes = fs::read(&path).expect("the entry");
        *bytes.last_mut().expect("bytes") ^= 1;
        fs::write(&path, bytes).expect("written");
        assert_eq!(artifacts.get("a"), None);
    }

    #[test]
    fn an_entry_of_another_directory_or_name_is_not_given_back() {
        let (here, there) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
        let (mine, theirs) =
            (Artifacts::open(here.path()).expect("artifacts"), Artifacts::open(there.path()).expect("artifacts"));
        theirs.put("a", b"machine code");
        fs::copy(theirs.path("a"), mine.path("a")).expect("copied");
        assert_eq!(mine.get("a"), None);
        fs::copy(theirs.path("a"), theirs.path("b")).expect("copied");
        assert_eq!(theirs.get("b"), None);
    }

    #[test]
    fn a_directory_that_cannot_be_made_is_named() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let error = Artifacts::open(&file.path().join("below")).expect_err("a file is no directory");
        assert!(error.to_string().contains(&*file.path().to_string_lossy()), "{error}");
    }
}
