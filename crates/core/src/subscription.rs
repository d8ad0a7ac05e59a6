//! Who wants to know what, where.

use std::time::Duration;

use crate::arrival::word;
use crate::endpoint::EndpointUrl;
use crate::filter::Filter;
use crate::id::{AccountId, ApplicationId, SubscriptionId};
use crate::secret::Secret;

/// One account's events, told to one endpoint by one protocol.
#[derive(Debug, Clone)]
pub struct Subscription {
    /// Its id.
    pub id: SubscriptionId,
    /// Its name, unique.
    pub name: String,
    /// Whose events.
    pub account: AccountId,
    /// That account's name.
    pub account_name: String,
    /// How they are told.
    pub protocol: Protocol,
    /// Where they are told.
    pub endpoint: EndpointUrl,
    /// What the bytes are signed with. Its reading depends on the protocol: the text itself for `nextcloud` (the
    /// common key) and `sagex3` (the client id), `whsec_` and base64 for `standard`.
    pub key: Secret,
    /// The least time between two sends; zero tells each event by a notification of its own.
    pub min_interval: Duration,
    /// Which events.
    pub filter: Filter,
    /// Whether it is being told now.
    pub status: SubscriptionStatus,
    /// Why it is not, in words.
    pub status_reason: Option<String>,
    /// Declared in the configuration file, and so changed only there.
    pub managed: bool,
}

/// A wire format, and what only it needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Protocol {
    /// Nextcloud's File Upload Notification; always coalesced.
    Nextcloud {
        /// The connection id, carried verbatim as `id`.
        connection_id: String,
    },
    /// Sage X3's files notification; one for each file.
    SageX3 {
        /// Who is told.
        application: ApplicationId,
        /// Its public id.
        client_id: String,
        /// How the signature is written.
        signature_encoding: SignatureEncoding,
        /// Whose files, in Sage X3's words.
        customer: Customer,
    },
    /// Standard Webhooks, thin.
    Standard,
}

impl Protocol {
    /// Which one it is.
    pub const fn kind(&self) -> ProtocolKind {
        match self {
            Self::Nextcloud { .. } => ProtocolKind::Nextcloud,
            Self::SageX3 { .. } => ProtocolKind::SageX3,
            Self::Standard => ProtocolKind::Standard,
        }
    }
}

/// The name of a wire format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ProtocolKind {
    /// Nextcloud's File Upload Notification.
    Nextcloud,
    /// Sage X3's files notification.
    SageX3,
    /// Standard Webhooks.
    Standard,
}

word!(ProtocolKind { Nextcloud => "nextcloud", SageX3 => "sagex3", Standard => "standard" });

/// How a Sage X3 signature is written (protocols, section 4.3: the encoding is not stated; hex is the default).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureEncoding {
    /// 64 lower-case hex digits.
    Hex,
    /// 44 characters of standard base64.
    Base64,
}

word!(SignatureEncoding { Hex => "hex", Base64 => "base64" });

/// An account as Sage X3 names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Customer {
    /// Base URL of the customer's X3, verbatim.
    pub url: String,
    /// The customer's id.
    pub id: String,
    /// A short readable code.
    pub code: String,
}

/// Whether a subscription is being told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SubscriptionStatus {
    /// It is.
    Active,
    /// A person paused it; what it is owed is kept.
    Paused,
    /// filebell stopped telling it (410 Gone); what it is owed is kept.
    Disabled,
    /// The grant it was made for was taken back; it is owed nothing more.
    Revoked,
}

word!(SubscriptionStatus { Active => "active", Paused => "paused", Disabled => "disabled", Revoked => "revoked" });

impl Subscription {
    /// How its events are gathered into notifications.
    pub fn cadence(&self) -> Cadence {
        Cadence::of(self.protocol.kind(), self.min_interval)
    }
}

/// How events are gathered into notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cadence {
    /// One notification for each event.
    PerEvent,
    /// At most one outstanding notification, covering all events since the last.
    Coalesced {
        /// The least time between two sends.
        min_interval: Duration,
    },
}

impl Cadence {
    /// That of a protocol with a minimum interval: `nextcloud` always coalesces, `sagex3` never does, `standard` does
    /// when an interval is set.
    pub const fn of(protocol: ProtocolKind, min_interval: Duration) -> Self {
        match protocol {
            ProtocolKind::SageX3 => Self::PerEvent,
            ProtocolKind::Standard if min_interval.is_zero() => Self::PerEvent,
            ProtocolKind::Nextcloud | ProtocolKind::Standard => Self::Coalesced { min_interval },
        }
    }
}
