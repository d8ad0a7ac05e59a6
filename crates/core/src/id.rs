//! Ids: each kind has its own type and its own prefix in text, so that none is taken for another.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The text is not an id of the kind that was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not an id of the form {form}")]
pub struct NotAnId {
    text: String,
    form: &'static str,
}

macro_rules! row_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(i64);

        impl $name {
            /// From the number the store gave it.
            pub const fn new(number: i64) -> Self {
                Self(number)
            }

            /// The number the store gave it.
            pub const fn get(self) -> i64 {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0)
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                    .and_then(|digits| digits.parse().ok())
                    .map(Self)
                    .ok_or_else(|| NotAnId { text: text.to_owned(), form: concat!($prefix, "_<number>") })
            }
        }
    };
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// From a fresh or a stored UUID.
            pub const fn new(uuid: Uuid) -> Self {
                Self(uuid)
            }

            /// The bare UUID, as the store and the Sage X3 wire carry it.
            pub const fn uuid(self) -> Uuid {
                self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "_{}"), self.0.simple())
            }
        }

        impl FromStr for $name {
            type Err = NotAnId;

            fn from_str(text: &str) -> Result<Self, NotAnId> {
                text.strip_prefix(concat!($prefix, "_"))
                    .filter(|hex| hex.len() == 32)
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or_else(|| NotAnId { text: text.to_owned(), form: concat!($prefix, "_<32 hex digits>") })
            }
        }
    };
}

row_id!(
    /// An account: the owner of a tree of files.
    AccountId, "acc"
);
row_id!(
    /// An application: a third-party program that is told.
    ApplicationId, "app"
);
row_id!(
    /// A grant: an account's consent that an application may see certain folders.
    GrantId, "gra"
);
row_id!(
    /// A subscription: who wants to know what, where.
    SubscriptionId, "sub"
);
row_id!(
    /// A file: a path in an account whose number survives rewrites and renames. Shown bare on the wire.
    FileId, "fil"
);
row_id!(
    /// A position in the journal as a puller keeps it: everything up to and including it has been seen.
    ///
    /// Opaque to the outside; inside it is the [`Seq`] of the last event seen, zero before the first.
    Cursor, "cur"
);
uuid_id!(
    /// An event of the journal.
    EventId, "evt"
);
uuid_id!(
    /// A notification; the same over all its attempts.
    NotificationId, "ntf"
);
uuid_id!(
    /// An application's request for an account's consent.
    PairingId, "par"
);
uuid_id!(
    /// All tokens that go back to one consent or one command.
    FamilyId, "fam"
);
uuid_id!(
    /// An upload that was announced.
    IngestionId, "ing"
);

/// A stream of fresh UUIDs, handed to whoever makes ids: chance comes in as a value.
pub type FreshIds = Box<dyn FnMut() -> Uuid + Send>;

/// The number of an event in the journal: increasing, never reused. Zero is before the first event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(i64);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// From the number the store gave it.
    pub const fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number itself.
    pub const fn get(self) -> i64 {
        self.0
    }

    /// The number after this one.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0.saturating_add(1))
    }
}

impl fmt::Display for Seq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl Cursor {
    /// The position just after the event `seq`.
    pub const fn after(seq: Seq) -> Self {
        Self(seq.0)
    }

    /// The last event seen.
    pub const fn seq(self) -> Seq {
        Seq(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_writes_and_nothing_else() {
        assert_eq!("sub_7".parse(), Ok(SubscriptionId::new(7)));
        assert_eq!(SubscriptionId::new(7).to_string(), "sub_7");
        for wrong in ["7", "acc_7", "sub_", "sub_+7", "sub_-7", "sub_99999999999999999999"] {
            assert!(wrong.parse::<SubscriptionId>().is_err(), "{wrong}");
        }
        let id = NotificationId::new(Uuid::from_u128(0x0d9c_1c6e));
        assert_eq!(id.to_string().parse(), Ok(id));
        assert!("ntf_0d9c1c6e".parse::<NotificationId>().is_err());
    }
}
