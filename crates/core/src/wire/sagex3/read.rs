//! What an application reads: the push, its detail, listings and refusals. Lenient where the specification says so.

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};
use uuid::Uuid;

/// A document is not what it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// It is not JSON of the right shape.
    #[error("not JSON of the expected form: {0}")]
    Json(String),
    /// A member is missing or has another type.
    #[error("the member `{0}` is missing or wrong")]
    Member(&'static str),
    /// An id is there in two spellings with two values (4.2).
    #[error("the member `{0}` is there twice with different values")]
    Twice(&'static str),
}

impl From<serde_json::Error> for ReadError {
    fn from(error: serde_json::Error) -> Self {
        Self::Json(error.to_string())
    }
}

/// A member whose name is taken in any case, because push and detail spell it differently (4.2).
fn id_member(object: &Map<String, Value>, name: &'static str) -> Result<String, ReadError> {
    let mut values = object.iter().filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value);
    let first = values.next().and_then(Value::as_str).ok_or(ReadError::Member(name))?;
    if values.any(|value| value.as_str() != Some(first)) {
        return Err(ReadError::Twice(name));
    }
    Ok(first.to_owned())
}

fn uuid_member(object: &Map<String, Value>, name: &'static str) -> Result<Uuid, ReadError> {
    Uuid::try_parse(&id_member(object, name)?).map_err(|_| ReadError::Member(name))
}

fn member(object: &Map<String, Value>, name: &'static str) -> Result<String, ReadError> {
    object.get(name).and_then(Value::as_str).map(str::to_owned).ok_or(ReadError::Member(name))
}

/// A pushed notification (4.1). All of it is hearsay until the detail has been fetched.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Pushed {
    /// The notification's id: remember it, a repeated one is the same notification.
    pub notification_id: Uuid,
    /// Which interface speaks; treat an unknown one as done.
    pub source: String,
    /// The customer's X3.
    pub customer_url: String,
    /// The customer's id.
    pub customer_id: String,
    /// When it was made; the form is not promised.
    pub datetime: String,
    /// Where the detail is said to be. Do not send a token there unless the host is known.
    pub detail_url: String,
}

impl Pushed {
    /// Reads a body that has been verified.
    pub fn from_json(body: &[u8]) -> Result<Self, ReadError> {
        let object: Map<String, Value> = serde_json::from_slice(body)?;
        Ok(Self {
            notification_id: uuid_member(&object, "notificationId")?,
            source: member(&object, "source")?,
            customer_url: member(&object, "customerUrl")?,
            customer_id: id_member(&object, "customerID")?,
            datetime: member(&object, "datetime")?,
            detail_url: member(&object, "detailUrl")?,
        })
    }
}

/// A fetched detail (5).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Detail {
    /// The notification's id.
    pub notification_id: Uuid,
    /// The application's id inside X3.
    pub application_id: String,
    /// The customer's short code.
    pub customer_code: String,
    /// The customer's id.
    pub customer_id: String,
    /// The customer's X3.
    pub customer_url: String,
    /// When the notification was made.
    pub datetime: String,
    /// Which interface speaks.
    pub source: String,
    /// What happened.
    pub payload: Payload,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Payload {
    /// A file can be downloaded.
    FileAvailable(AvailableFile),
    /// Something that is not documented: keep it, treat it as done.
    Other(Value),
}

/// A file that can be downloaded.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct AvailableFile {
    /// Its folder.
    pub folder: String,
    /// Its name in that folder; hostile until proven otherwise.
    pub file_name: String,
    /// Where it is said to be. Better built anew from folder and name.
    pub download_url: String,
}

impl Detail {
    /// Reads the document. The payload may be a string that holds JSON, or the object itself.
    pub fn from_json(body: &[u8]) -> Result<Self, ReadError> {
        let object: Map<String, Value> = serde_json::from_slice(body)?;
        let payload = match object.get("payload") {
            Some(Value::String(text)) => serde_json::from_str(text)?,
            Some(value @ Value::Object(_)) => value.clone(),
            _ => return Err(ReadError::Member("payload")),
        };
        let is_file = payload.get("eventKind").and_then(Value::as_str) == Some(super::FILE_AVAILABLE);
        Ok(Self {
            notification_id: uuid_member(&object, "notificationID")?,
            application_id: member(&object, "applicationId").unwrap_or_default(),
            customer_code: member(&object, "customerCode").unwrap_or_default(),
            customer_id: id_member(&object, "customerId")?,
            customer_url: member(&object, "customerUrl").unwrap_or_default(),
            datetime: member(&object, "datetime").unwrap_or_default(),
            source: member(&object, "source")?,
            payload: if is_file {
                Payload::FileAvailable(serde_json::from_value(payload)?)
            } else {
                Payload::Other(payload)
            },
        })
    }

    /// Whether this is the detail that the push announced: same notification, same customer (5).
    pub fn agrees_with(&self, pushed: &Pushed) -> bool {
        self.notification_id == pushed.notification_id && self.customer_id == pushed.customer_id
    }
}

/// A page of a listing (6.1). Go on while [`Self::next`] is there; `isTruncated` is not to be relied on.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct Listing {
    /// The files.
    pub items: Vec<ListedFile>,
    /// The next page, relative to `<endpoint>/datadelivery/`.
    #[serde(rename = "$next", default)]
    pub next: Option<String>,
    /// The page before.
    #[serde(rename = "$previous", default)]
    pub previous: Option<String>,
}

/// A file of a listing.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ListedFile {
    /// Its name in the folder; hostile until proven otherwise.
    pub key: String,
    /// Where to get it, relative to `<endpoint>/datadelivery/`.
    #[serde(default)]
    pub download_url: String,
    /// When it was last changed.
    #[serde(default)]
    pub last_modified: String,
    /// The storage's ETag, quotes included.
    #[serde(default, deserialize_with = "or_empty")]
    pub checksum: String,
    /// Its size in bytes.
    pub size: u64,
}

fn or_empty<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Option::<String>::deserialize(deserializer).map(Option::unwrap_or_default)
}

impl Listing {
    /// Reads the document.
    pub fn from_json(body: &[u8]) -> Result<Self, ReadError> {
        Ok(serde_json::from_slice(body)?)
    }
}

impl ListedFile {
    /// The MD5 of the content, if the checksum is one: after an upload in several parts it is not (6.1).
    pub fn md5(&self) -> Option<[u8; 16]> {
        let digits = self.checksum.strip_prefix('"')?.strip_suffix('"')?;
        let mut md5 = [0; 16];
        hex::decode_to_slice(digits, &mut md5).ok()?;
        Some(md5)
    }
}

/// The most characters of an unknown error body that are passed on.
const ERROR_CHARS_MAX: usize = 1000;

/// The message of a refusal, in whichever of the documented forms it comes (6.5).
pub fn error_message(body: &[u8]) -> String {
    let raw = || String::from_utf8_lossy(body).chars().take(ERROR_CHARS_MAX).collect();
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else { return raw() };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let nested = || object.values().find(|value| value.is_object()).and_then(|value| value.get("message"));
    let message = object.get("message").and_then(text).or_else(|| nested().and_then(text));
    message.or_else(|| object.get("$message").and_then(text)).unwrap_or_else(raw)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0d9c1c6e-3f0b-4b52-8a53-6f1d2c7e4b11";

    fn pushed(extra: &str) -> Result<Pushed, ReadError> {
        let rest = r#""source":"s","customerUrl":"u","datetime":"d","detailUrl":"x""#;
        Pushed::from_json(format!("{{{rest},{extra}}}").as_bytes())
    }

    #[test]
    fn ids_are_found_in_either_spelling() {
        for extra in [
            format!(r#""notificationId":"{ID}","customerID":"c""#),
            format!(r#""notificationID":"{ID}","customerId":"c""#),
            format!(r#""notificationID":"{ID}","notificationId":"{ID}","customerId":"c","later":1"#),
        ] {
            assert_eq!(pushed(&extra).unwrap().customer_id, "c", "{extra}");
        }
        let twice = format!(r#""notificationId":"{ID}","customerID":"c","customerId":"d""#);
        assert!(matches!(pushed(&twice), Err(ReadError::Twice(_))));
        assert!(matches!(pushed(r#""notificationId":"1/../2","customerID":"c""#), Err(ReadError::Member(_))));
        assert!(pushed(&format!(r#""notificationId":"{ID}""#)).is_err());
    }

    #[test]
    fn a_payload_is_a_string_or_an_object() {
        let detail = |payload: &str| {
            let text = format!(r#"{{"notificationID":"{ID}","customerId":"c","source":"s","payload":{payload}}}"#);
            Detail::from_json(text.as_bytes()).map(|detail| detail.payload)
        };
        let file = r#"{"eventKind":"dataDeliveryFileAvailable","folder":"F","fileName":"n","downloadUrl":"u"}"#;
        let as_object = detail(file).unwrap();
        assert_eq!(detail(&serde_json::to_string(file).unwrap()).unwrap(), as_object);
        assert!(matches!(as_object, Payload::FileAvailable(_)));
        assert!(matches!(detail(r#"{"eventKind":"other"}"#).unwrap(), Payload::Other(_)));
        assert!(detail("7").is_err());
    }

    #[test]
    fn only_an_md5_is_taken_for_one() {
        let listed = |checksum: &str| {
            let text = format!(r#"{{"items":[{{"key":"k","size":1,"checksum":{checksum}}}]}}"#);
            Listing::from_json(text.as_bytes()).unwrap().items[0].md5().is_some()
        };
        assert!(listed(r#""\"b1946ac92492d2347c6235b4d2611184\"""#));
        assert!(!listed(r#""\"b1946ac92492d2347c6235b4d2611184-2\"""#));
        assert!(!listed(r#""b1946ac92492d2347c6235b4d2611184""#));
        assert!(!listed("null"));
    }

    #[test]
    fn every_form_of_refusal_is_read() {
        for (body, message) in [
            (r#"{"message":"a"}"#, "a"),
            (r#"{"fileExists":{"message":"b"}}"#, "b"),
            (r#"{"$severity":"error","$message":"c"}"#, "c"),
            ("<html>", "<html>"),
            ("{}", "{}"),
        ] {
            assert_eq!(error_message(body.as_bytes()), message);
        }
        assert_eq!(error_message(&[b'x'; 5000]).len(), ERROR_CHARS_MAX);
    }
}
