//! Module bytes on disk. A file that is not whole is fetched again, never trusted; a disk that refuses costs time only.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::SystemTime,
};

use sha2::{Digest, Sha256};

/// Begins every file: format and its version.
const MAGIC: &[u8; 8] = b"lockmod1";
/// Magic, then SHA-256 of the bytes.
const HEADER_BYTES: usize = 8 + 32;
/// Most bytes of module files kept. The oldest go first.
const DIRECTORY_BYTES_MAX: u64 = 4 << 30;
/// What ends a module file's name.
const ENDING: &str = "wasm";

/// A directory of module files.
pub(crate) struct ModuleFiles {
    directory: Arc<Path>,
}

impl ModuleFiles {
    pub fn new(directory: PathBuf) -> Self {
        Self { directory: directory.into() }
    }

    /// A module's bytes, if they lie there whole. `id` has been checked.
    pub async fn read(&self, id: &str) -> Option<Vec<u8>> {
        let path = self.directory.join(id).with_extension(ENDING);
        let read = tokio::task::spawn_blocking(move || {
            let mut bytes = fs::read(&path).ok()?;
            let whole = bytes.len() >= HEADER_BYTES
                && bytes[..8] == *MAGIC
                && bytes[8..HEADER_BYTES] == Sha256::digest(&bytes[HEADER_BYTES..])[..];
            if !whole {
                tracing::warn!(path = %path.display(), "module file is not whole; fetching it again");
                return None;
            }
            bytes.drain(..HEADER_BYTES);
            Some(bytes)
        });
        read.await.ok().flatten()
    }

    /// Keeps a module's bytes. Failing to is logged, no more.
    pub async fn write(&self, id: &str, bytes: Arc<[u8]>) {
        let (directory, id) = (self.directory.clone(), id.to_owned());
        let written = tokio::task::spawn_blocking(move || {
            write(&directory, &id, &bytes).and_then(|()| prune(&directory, &id, DIRECTORY_BYTES_MAX))
        });
        if let Ok(Err(error)) = written.await {
            tracing::warn!(directory = %self.directory.display(), %error, "cannot keep a module on disk");
        }
    }
}

impl ModuleFiles {
    /// Removes a module's file, if there is one. `id` has been checked.
    pub async fn remove(&self, id: &str) {
        let path = self.directory.join(id).with_extension(ENDING);
        let removed = tokio::task::spawn_blocking(move || fs::remove_file(path));
        if let Ok(Err(error)) = removed.await
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(id, %error, "cannot remove a module from disk");
        }
    }
}

/// Writes aside, then renames: readers see nothing or the whole file.
fn write(directory: &Path, id: &str, bytes: &[u8]) -> io::Result<()> {
    static ASIDE: AtomicU64 = AtomicU64::new(0);
    fs::create_dir_all(directory)?;
    let number = ASIDE.fetch_add(1, Ordering::Relaxed);
    let aside = directory.join(format!("{id}.{}-{number}.tmp", std::process::id()));
    let mut whole = Vec::with_capacity(HEADER_BYTES + bytes.len());
    whole.extend_from_slice(MAGIC);
    whole.extend_from_slice(&Sha256::digest(bytes));
    whole.extend_from_slice(bytes);
    let renamed = fs::write(&aside, whole).and_then(|()| fs::rename(&aside, directory.join(id).with_extension(ENDING)));
    if renamed.is_err() {
        let _ = fs::remove_file(&aside);
    }
    renamed
}

/// Removes the oldest files beyond `max` bytes (but never `newest`), and what killed writers left.
fn prune(directory: &Path, newest: &str, max: u64) -> io::Result<()> {
    let mut files = Vec::new();
    for file in fs::read_dir(directory)? {
        let file = file?;
        let path = file.path();
        let about = file.metadata()?;
        let modified = about.modified().unwrap_or(SystemTime::UNIX_EPOCH);
        match path.extension().and_then(|e| e.to_str()) {
            Some(ENDING) => files.push((modified, about.len(), path)),
            Some("tmp") if modified.elapsed().is_ok_and(|age| age.as_secs() > 3600) => fs::remove_file(path)?,
            _ => {}
        }
    }
    files.sort();
    let mut total: u64 = files.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in files {
        if total <= max {
            break;
        }
        if path.file_stem().and_then(|stem| stem.to_str()) != Some(newest) {
            fs::remove_file(path)?;
            total -= bytes;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bytes_come_back_and_a_damaged_file_does_not() {
        let home = tempfile::tempdir().unwrap();
        let files = ModuleFiles::new(home.path().join("modules"));
        assert_eq!(files.read("m").await, None);
        files.write("m", b"wasm bytes".to_vec().into()).await;
        assert_eq!(files.read("m").await.unwrap(), b"wasm bytes");

        let path = home.path().join("modules/m.wasm");
        let mut bytes = fs::read(&path).unwrap();
        *bytes.last_mut().unwrap() ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert_eq!(files.read("m").await, None, "a flipped bit");
        for length in [0, 7, 8, 39, 41] {
            bytes.truncate(length);
            fs::write(&path, &bytes).unwrap();
            assert_eq!(files.read("m").await, None, "cut to {length}");
        }
        files.write("m", b"new".to_vec().into()).await;
        assert_eq!(files.read("m").await.unwrap(), b"new");
        assert_eq!(fs::read_dir(home.path().join("modules")).unwrap().count(), 1, "nothing is left aside");
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_made_is_no_error() {
        let home = tempfile::tempdir().unwrap();
        let file = home.path().join("file");
        fs::write(&file, "").unwrap();
        let files = ModuleFiles::new(file.join("modules"));
        files.write("m", b"x".to_vec().into()).await;
        assert_eq!(files.read("m").await, None);
    }

    #[test]
    fn the_oldest_go_when_room_ends_but_not_the_newest() {
        let home = tempfile::tempdir().unwrap();
        for (age, id) in [(30, "a"), (20, "b"), (10, "c")] {
            write(home.path(), id, &[0; 100]).unwrap();
            let when = SystemTime::now() - std::time::Duration::from_secs(age);
            fs::File::options()
                .append(true)
                .open(home.path().join(id).with_extension(ENDING))
                .unwrap()
                .set_modified(when)
                .unwrap();
        }
        prune(home.path(), "a", 2 * (100 + HEADER_BYTES as u64)).unwrap();
        let left = |id| home.path().join(id).with_extension(ENDING).exists();
        assert!(left("a") && !left("b") && left("c"));
    }
}
