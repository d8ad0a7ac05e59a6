//! Secrets at rest: AES-256-GCM-SIV under a key that lies beside the store, never in it.

use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::rand::SystemRandom;
use filebell_core::secret::Secret;
use filebell_core::wire::sign::hmac_sha256;
use zeroize::Zeroizing;

/// The file in the data directory that holds the key.
const KEY_FILE: &str = "secret-key";
const KEY_BYTES: usize = 32;
/// First byte of every sealed secret; another way of sealing gets another number.
const SEALED_V1: u8 = 1;

/// The key that secrets are sealed under.
#[derive(Clone)]
pub struct StoreKey(Zeroizing<[u8; KEY_BYTES]>);

/// Why the key could not be had.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file cannot be read or written.
    #[error("cannot use the key file {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        why: std::io::Error,
    },
    /// The file does not hold a key.
    #[error("{} does not hold 64 hex digits; restore it from a backup (secrets cannot be read without it)", path.display())]
    NotAKey {
        /// The file.
        path: PathBuf,
    },
    /// The system gives no randomness.
    #[error("the system gave no randomness for a new key")]
    NoRandomness,
}

impl StoreKey {
    /// Reads the key from `data_dir`, or makes one there (mode 0600).
    pub fn load_or_create(data_dir: &Path) -> Result<Self, KeyError> {
        let path = data_dir.join(KEY_FILE);
        let io = |why| KeyError::Io { path: path.clone(), why };
        match fs::read_to_string(&path) {
            Ok(text) => {
                let text = Zeroizing::new(text);
                let mut key = Zeroizing::new([0; KEY_BYTES]);
                hex::decode_to_slice(text.trim(), &mut *key).map_err(|_| KeyError::NotAKey { path: path.clone() })?;
                Ok(Self(key))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = Self::generate()?;
                let mut file =
                    fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path).map_err(io)?;
                file.write_all(Zeroizing::new(hex::encode(*key.0)).as_bytes()).map_err(io)?;
                file.sync_all().map_err(io)?;
                Ok(key)
            }
            Err(error) => Err(io(error)),
        }
    }

    /// A fresh key.
    pub fn generate() -> Result<Self, KeyError> {
        let mut key = Zeroizing::new([0; KEY_BYTES]);
        aws_lc_rs::rand::SecureRandom::fill(&SystemRandom::new(), &mut *key).map_err(|_| KeyError::NoRandomness)?;
        Ok(Self(key))
    }

    /// A key for one purpose, from which neither this key nor that of another purpose can be had.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        hmac_sha256(&*self.0, &[b"filebell/", purpose.as_bytes()])
    }

    /// Seals a secret for one `place` (a table and a row); it cannot be opened as another row's.
    pub(super) fn seal(&self, place: &str, secret: &Secret) -> Option<Vec<u8>> {
        let mut text = secret.expose().as_bytes().to_vec();
        let nonce = self.aead()?.seal_in_place_append_tag(Aad::from(place.as_bytes()), &mut text).ok()?;
        Some([&[SEALED_V1], nonce.as_ref().as_slice(), &text].concat())
    }

    /// Opens what [`Self::seal`] sealed for the same place under the same key.
    pub(super) fn open(&self, place: &str, sealed: &[u8]) -> Option<Secret> {
        let (nonce, text) = sealed.strip_prefix(&[SEALED_V1])?.split_first_chunk::<12>()?;
        let mut text = text.to_vec();
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let text = self.aead()?.open_in_place(nonce, Aad::from(place.as_bytes()), &mut text).ok()?;
        Some(Secret::new(String::from_utf8(text.to_vec()).ok()?))
    }

    fn aead(&self) -> Option<RandomizedNonceKey> {
        RandomizedNonceKey::new(&AES_256_GCM_SIV, &*self.0).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_secret_opens_in_its_own_place_only() {
        let key = StoreKey::generate().unwrap();
        let secret = Secret::new("4fdab231");
        let sealed = key.seal("subscription/rdm", &secret).unwrap();
        assert!(!sealed.windows(4).any(|part| part == b"4fda"));
        assert_eq!(key.open("subscription/rdm", &sealed), Some(secret.clone()));
        assert_eq!(key.open("subscription/other", &sealed), None);
        assert_eq!(StoreKey::generate().unwrap().open("subscription/rdm", &sealed), None);
        assert_eq!(key.open("subscription/rdm", b""), None);
    }

    #[test]
    fn the_key_is_made_once_and_for_the_owner_only() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let sealed = StoreKey::load_or_create(dir.path()).unwrap().seal("x", &Secret::new("s")).unwrap();
        assert!(StoreKey::load_or_create(dir.path()).unwrap().open("x", &sealed).is_some());
        let mode = fs::metadata(dir.path().join(KEY_FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        fs::write(dir.path().join(KEY_FILE), "short").unwrap();
        assert!(matches!(StoreKey::load_or_create(dir.path()), Err(KeyError::NotAKey { .. })));
    }
}
