//! Pairing by consent, the tokens that come from it, and taking both back: what is kept, and its verbs.

use std::time::Duration;

use filebell_core::id::{AccountId, ApplicationId, FamilyId, GrantId, IngestionId, NotificationId, PairingId};
use filebell_core::secret::Secret;
use filebell_core::time::TimestampMs;

use super::{Grant, Store, StoreError, dispatch};

/// A key that tokens are signed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningKey {
    /// Its id, as the header of a token names it.
    pub kid: String,
    /// The private key, in whatever form the signer wants it.
    pub private: Secret,
    /// When it was made.
    pub created_at: TimestampMs,
    /// From when on it signs nothing more; it still verifies.
    pub retired_at: Option<TimestampMs>,
}

/// A family of tokens to be opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewFamily {
    /// Its id.
    pub id: FamilyId,
    /// What its tokens speak for.
    pub grant: GrantId,
    /// When the last of its tokens ends.
    pub expires_at: TimestampMs,
    /// Hash of the id of its first refresh token; `None` for a family without one.
    pub refresh: Option<[u8; 32]>,
}

/// A refresh token that is to be exchanged for another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exchange {
    /// Hash of the id of the one given.
    pub hash: [u8; 32],
    /// Who gives it.
    pub application: ApplicationId,
    /// Hash of the id of the new one.
    pub fresh: [u8; 32],
    /// When the new one ends.
    pub expires_at: TimestampMs,
    /// How long the old one may be given again, as long as the new one has not been used.
    pub grace: Duration,
}

/// What became of an exchange.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exchanged {
    /// The new one counts.
    Fresh(FamilyId, Grant),
    /// There is no such token of that application, or it has ended, or was revoked.
    Refused,
    /// It had been exchanged before and its time of grace is over: the whole family has been revoked.
    Reused,
}

/// A refresh token as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefreshToken {
    /// Its family.
    pub family: FamilyId,
    /// What it speaks for.
    pub grant: Grant,
    /// When it ends.
    pub expires_at: TimestampMs,
    /// Whether it could still be exchanged, time aside: not exchanged before, and not revoked.
    pub live: bool,
}

/// An application's request for an account's consent, after that account's person has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pairing {
    /// Its id; also the part of the code that finds it again.
    pub id: PairingId,
    /// Who asks.
    pub application: ApplicationId,
    /// Who is asked.
    pub account: AccountId,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// What is asked for.
    pub scopes: Vec<String>,
    /// The application's own text, returned unchanged.
    pub state: String,
    /// PKCE challenge (S256).
    pub challenge: Option<String>,
    /// How the answer travels: `form`, `query` or `server`.
    pub transport: String,
    /// SHA-256 of the cookie of the browser that may decide.
    pub session_hash: [u8; 32],
    /// Until when it can be decided.
    pub expires_at: TimestampMs,
    /// Where it stands.
    pub status: PairingStatus,
    /// SHA-256 of the code's secret part, once accepted.
    pub code_hash: Option<[u8; 32]>,
    /// Until when the code can be exchanged.
    pub code_expires_at: Option<TimestampMs>,
    /// What came of it, once accepted.
    pub grant: Option<GrantId>,
    /// The tokens that came of it, once the code was used.
    pub family: Option<FamilyId>,
}

/// Where a pairing stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PairingStatus {
    /// It waits for a decision.
    Requested,
    /// It was accepted; the code has not been used.
    Accepted,
    /// It was rejected.
    Rejected,
    /// Its code was exchanged.
    Used,
}

/// An upload that was announced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ingestion {
    /// Its id.
    pub id: IngestionId,
    /// Under which grant.
    pub grant: GrantId,
    /// Into which folder.
    pub folder: String,
    /// Under which name below the folder.
    pub file_name: Vec<u8>,
    /// How far it has come.
    pub status: IngestionStatus,
    /// When it was announced.
    pub created_at: TimestampMs,
    /// When its status last changed.
    pub changed_at: TimestampMs,
}

/// How far an upload has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IngestionStatus {
    /// Nothing has come yet.
    AwaitingUpload,
    /// It is in its place, and in the journal.
    Done,
    /// It broke off, or could not be put in its place; it may be sent again.
    Error,
}

impl Store {
    // --- keys and tokens

    /// All signing keys, newest first.
    pub async fn signing_keys(&self) -> Result<Vec<SigningKey>, StoreError> {
        dispatch!(self, signing_keys())
    }

    /// Keeps a signing key unless there is one that signs. Answers whether it was kept.
    pub async fn add_first_signing_key(&self, key: SigningKey) -> Result<bool, StoreError> {
        dispatch!(self, add_first_signing_key(key))
    }

    /// Keeps a new signing key, retires all others at its `created_at`, and forgets those that retired before
    /// `forget_before`.
    pub async fn rotate_signing_key(&self, key: SigningKey, forget_before: TimestampMs) -> Result<(), StoreError> {
        dispatch!(self, rotate_signing_key(key, forget_before))
    }

    /// Opens a family of tokens, and forgets those that ended before `now`.
    pub async fn open_family(&self, family: NewFamily, now: TimestampMs) -> Result<(), StoreError> {
        dispatch!(self, open_family(family, now))
    }

    /// What a family's tokens speak for; `None` if it, or the grant, was revoked or is unknown.
    pub async fn family_grant(&self, family: FamilyId) -> Result<Option<Grant>, StoreError> {
        dispatch!(self, family_grant(family))
    }

    /// Exchanges a refresh token, or revokes its family if it had been exchanged before.
    pub async fn exchange_refresh(&self, exchange: Exchange, now: TimestampMs) -> Result<Exchanged, StoreError> {
        dispatch!(self, exchange_refresh(exchange, now))
    }

    /// The refresh token with this hash of its id.
    pub async fn refresh_token(&self, hash: [u8; 32]) -> Result<Option<RefreshToken>, StoreError> {
        dispatch!(self, refresh_token(hash))
    }

    /// Revokes all tokens of a family.
    pub async fn revoke_family(&self, family: FamilyId, now: TimestampMs) -> Result<(), StoreError> {
        dispatch!(self, revoke_family(family, now))
    }

    /// Keeps the base of every URL handed out, for commands that are not told it.
    pub async fn set_public_url(&self, url: String) -> Result<(), StoreError> {
        dispatch!(self, set_public_url(url))
    }

    /// The base of every URL handed out, as the server last said.
    pub async fn public_url(&self) -> Result<Option<String>, StoreError> {
        dispatch!(self, public_url())
    }

    // --- pairing

    /// Keeps a request for consent, and forgets those long past.
    pub async fn add_pairing(&self, pairing: Pairing, now: TimestampMs) -> Result<(), StoreError> {
        dispatch!(self, add_pairing(pairing, now))
    }

    /// A request for consent.
    pub async fn pairing(&self, id: PairingId) -> Result<Option<Pairing>, StoreError> {
        dispatch!(self, pairing(id))
    }

    /// Accepts a request that waits and has not expired: writes the grant, and keeps the code. Answers whether it did.
    pub async fn accept_pairing(
        &self,
        id: PairingId,
        folders: Vec<String>,
        code_hash: [u8; 32],
        code_expires_at: TimestampMs,
        now: TimestampMs,
    ) -> Result<bool, StoreError> {
        dispatch!(self, accept_pairing(id, folders, code_hash, code_expires_at, now))
    }

    /// Rejects a request that waits. Answers whether it did.
    pub async fn reject_pairing(&self, id: PairingId) -> Result<bool, StoreError> {
        dispatch!(self, reject_pairing(id))
    }

    /// Uses an accepted request's code up, and opens the family that comes of it. Answers whether it did: a code is
    /// used once, also by two calls at the same time.
    pub async fn use_code(&self, id: PairingId, family: NewFamily, now: TimestampMs) -> Result<bool, StoreError> {
        dispatch!(self, use_code(id, family, now))
    }

    /// Takes a grant back: its tokens end at once, what is pending for it ends as `revoked`, and it is owed nothing
    /// more. Answers whether it held.
    pub async fn revoke_grant(&self, grant: GrantId, now: TimestampMs) -> Result<bool, StoreError> {
        dispatch!(self, revoke_grant(grant, now))
    }

    /// All grants that were taken back.
    pub async fn revoked_grants(&self) -> Result<Vec<Grant>, StoreError> {
        dispatch!(self, revoked_grants())
    }

    /// Disables an application, or enables it again. What it is owed is kept.
    pub async fn set_application_disabled(&self, application: ApplicationId, disabled: bool) -> Result<(), StoreError> {
        dispatch!(self, set_application_disabled(application, disabled))
    }

    /// Gives an application a new secret; the one it has counts until `overlap_until`.
    pub async fn rotate_application_secret(
        &self,
        application: ApplicationId,
        secret_hash: String,
        overlap_until: TimestampMs,
    ) -> Result<(), StoreError> {
        dispatch!(self, rotate_application_secret(application, secret_hash, overlap_until))
    }

    /// Notes that a notification's detail was read. Answers whether this was the first time.
    pub async fn consume(&self, notification: NotificationId, now: TimestampMs) -> Result<bool, StoreError> {
        dispatch!(self, consume(notification, now))
    }

    // --- uploads

    /// Keeps an announced upload, and forgets those announced before `forget_before`.
    pub async fn add_ingestion(&self, ingestion: Ingestion, forget_before: TimestampMs) -> Result<(), StoreError> {
        dispatch!(self, add_ingestion(ingestion, forget_before))
    }

    /// An announced upload and the grant it was announced under; `None` if that was taken back.
    pub async fn ingestion(&self, id: IngestionId) -> Result<Option<(Ingestion, Grant)>, StoreError> {
        dispatch!(self, ingestion(id))
    }

    /// Writes how far an upload has come.
    pub async fn set_ingestion_status(
        &self,
        id: IngestionId,
        status: IngestionStatus,
        now: TimestampMs,
    ) -> Result<(), StoreError> {
        dispatch!(self, set_ingestion_status(id, status, now))
    }
}
