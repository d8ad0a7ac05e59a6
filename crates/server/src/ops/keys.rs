//! The keys that tokens are signed with: one signs, those before it still verify.

use std::collections::HashMap;
use std::time::Duration;

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use filebell_core::secret::Secret;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey};

use super::admin::random_uuid;
use super::{Ops, OpsError};
use crate::store::SigningKey;

/// What tokens are signed with.
pub(super) const ALGORITHM: Algorithm = Algorithm::RS256;
/// How long a retired key is kept at least: as long as the longest token may live.
const KEPT_FOR: Duration = Duration::from_secs(366 * 24 * 60 * 60);
/// The header of a 2048-bit RSA key in PKCS #8; behind it stands the same key in PKCS #1.
const PKCS8_HEADER_BYTES: usize = 26;

/// All keys, as of one revision of the store.
#[derive(Default)]
pub(super) struct KeyRing {
    signing: Option<(String, EncodingKey)>,
    verifying: HashMap<String, DecodingKey>,
    public: Vec<Jwk>,
}

impl KeyRing {
    /// Reads the keys; one that cannot be read is said in the log and left out.
    pub(super) fn new(keys: Vec<SigningKey>) -> Self {
        let mut ring = Self::default();
        for key in keys {
            match read(&key) {
                Ok((encoding, decoding, public)) => {
                    if key.retired_at.is_none() && ring.signing.is_none() {
                        ring.signing = Some((key.kid.clone(), encoding));
                    }
                    ring.verifying.insert(key.kid, decoding);
                    ring.public.push(public);
                }
                Err(error) => {
                    tracing::error!(key.kid, error = &error as &dyn std::error::Error, "a signing key cannot be read");
                }
            }
        }
        ring
    }

    /// The key that signs, with its id.
    pub(super) fn signing(&self) -> Option<&(String, EncodingKey)> {
        self.signing.as_ref()
    }

    /// The key with this id.
    pub(super) fn verifying(&self, kid: &str) -> Option<&DecodingKey> {
        self.verifying.get(kid)
    }
}

fn read(key: &SigningKey) -> Result<(EncodingKey, DecodingKey, Jwk), jsonwebtoken::errors::Error> {
    let der = zeroize::Zeroizing::new(STANDARD.decode(key.private.expose()).unwrap_or_default());
    let encoding = EncodingKey::from_rsa_der(&der);
    let mut public = Jwk::from_encoding_key(&encoding, ALGORITHM)?;
    public.common.key_id = Some(key.kid.clone());
    public.common.public_key_use = Some(PublicKeyUse::Signature);
    let decoding = DecodingKey::from_jwk(&public)?;
    Ok((encoding, decoding, public))
}

impl Ops {
    /// The public keys that verify tokens (RFC 7517).
    pub async fn public_keys(&self) -> Result<JwkSet, OpsError> {
        Ok(JwkSet { keys: self.with_signing_key().await?.keys.public.clone() })
    }

    /// A new key signs from here on; the others verify until their tokens have ended. Answers its id.
    pub async fn rotate_keys(&self) -> Result<String, OpsError> {
        let key = self.generate_signing_key().await?;
        let (kid, now) = (key.kid.clone(), self.0.seams.now());
        self.0.store.rotate_signing_key(key, now.before(KEPT_FOR)).await?;
        Ok(kid)
    }

    /// Who is who, with a key that signs; the first one is made when it is first needed.
    pub(super) async fn with_signing_key(&self) -> Result<std::sync::Arc<super::Directory>, OpsError> {
        let directory = self.directory().await?;
        if directory.keys.signing().is_some() {
            return Ok(directory);
        }
        let key = self.generate_signing_key().await?;
        // Another process may have been faster; then its key counts.
        self.0.store.add_first_signing_key(key).await?;
        self.directory().await
    }

    async fn generate_signing_key(&self) -> Result<SigningKey, OpsError> {
        let private = tokio::task::spawn_blocking(generate).await.ok().flatten().ok_or(OpsError::NoRandomness)?;
        let kid = random_uuid()?.simple().to_string();
        Ok(SigningKey { kid, private, created_at: self.0.seams.now(), retired_at: None })
    }
}

/// A fresh private key: PKCS #1 DER, in base64.
fn generate() -> Option<Secret> {
    let pair = KeyPair::generate(KeySize::Rsa2048).ok()?;
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    let pkcs1 = pkcs8.as_ref().get(PKCS8_HEADER_BYTES..)?;
    // Proves that the header is as long as assumed.
    KeyPair::from_der(pkcs1).ok()?;
    Some(Secret::new(STANDARD.encode(pkcs1)))
}
