//! The app's settings: what a user posts to connect a receiver, checked and answered as the original does
//! (specification D).

use std::time::Duration;

use serde_json::{Map, Value};

use super::super::ocs::{JsonTags, php_intval, push_json_string};
use crate::secret::Secret;

/// The longest interval that is kept; the original has no bound, and a year is as good as for ever.
const INTERVAL_SECS_MAX: u64 = 365 * 24 * 60 * 60;

/// The settings, each member as it was posted: a form makes texts, JSON may make numbers.
#[derive(Clone, PartialEq)]
pub struct Settings {
    id: Value,
    url: Value,
    interval: Value,
    secret: Value,
}

/// What is wrong with them. The texts are part of the contract, and so is the order in which they are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// `id` is missing.
    #[error("id is invalid")]
    Id,
    /// `url` is missing.
    #[error("url is invalid")]
    Url,
    /// `interval` is no number, or less than one.
    #[error("interval is invalid")]
    Interval,
    /// `secret` is no even number of hex digits.
    #[error("secret is invalid")]
    Secret,
}

/// What settings amount to, if anything can be told by them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// Carried verbatim as `id`.
    pub id: String,
    /// Where it is told.
    pub url: String,
    /// What it is signed with.
    pub key: Secret,
    /// The least time between two notifications.
    pub min_interval: Duration,
}

impl Settings {
    /// Checks what was posted. An empty id, URL or secret is allowed, as in the original.
    pub fn check(mut posted: Map<String, Value>) -> Result<Self, SettingsError> {
        let mut take = |name: &str| posted.remove(name).filter(|value| !value.is_null());
        let id = take("id").ok_or(SettingsError::Id)?;
        let url = take("url").ok_or(SettingsError::Url)?;
        let interval = take("interval").filter(|value| interval_secs(value).is_some());
        let interval = interval.ok_or(SettingsError::Interval)?;
        let is_key = |text: &str| text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let secret = take("secret").filter(|value| value.as_str().is_some_and(is_key));
        Ok(Self { id, url, interval, secret: secret.ok_or(SettingsError::Secret)? })
    }

    /// Reads what [`Self::to_json`] wrote.
    pub fn from_json(text: &str) -> Option<Self> {
        Self::check(serde_json::from_str(text).ok()?).ok()
    }

    /// The settings as the original answers them.
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        let members = [("id", &self.id), ("url", &self.url), ("interval", &self.interval), ("secret", &self.secret)];
        for (at, (name, value)) in members.into_iter().enumerate() {
            out.push(if at == 0 { '{' } else { ',' });
            push_json_string(&mut out, name, JsonTags::Hex);
            out.push(':');
            push_value(&mut out, value);
        }
        out.push('}');
        out
    }

    /// Id, URL, interval and secret as a person reads them.
    pub fn texts(&self) -> [String; 4] {
        [&self.id, &self.url, &self.interval, &self.secret]
            .map(|value| scalar(value).unwrap_or_else(|| value.to_string()))
    }

    /// Whom to tell, and how; nobody while the secret or the URL is empty.
    pub fn connection(&self) -> Option<Connection> {
        let key = self.secret.as_str().filter(|secret| !secret.is_empty())?;
        let url = self.url.as_str().filter(|url| !url.is_empty())?;
        let secs = interval_secs(&self.interval)?.min(INTERVAL_SECS_MAX);
        Some(Connection {
            id: scalar(&self.id)?,
            url: url.to_owned(),
            key: Secret::new(key),
            min_interval: Duration::from_secs(secs),
        })
    }
}

/// Without the secret.
impl std::fmt::Debug for Settings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Settings").field("id", &self.id).field("url", &self.url).finish_non_exhaustive()
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

fn interval_secs(value: &Value) -> Option<u64> {
    u64::try_from(php_intval(&scalar(value)?)?).ok().filter(|secs| *secs > 0)
}

/// How many bytes of a fresh secret are asked for: `length` as PHP reads it, 16 where that is no number above zero.
pub fn secret_length(length: Option<&str>, max: usize) -> usize {
    let asked = length.and_then(php_intval).filter(|length| *length > 0);
    asked.map_or(16, |length| usize::try_from(length).unwrap_or(max)).min(max)
}

/// JSON as PHP writes it in HTTP answers.
fn push_value(out: &mut String, value: &Value) {
    match value {
        Value::String(text) => push_json_string(out, text, JsonTags::Hex),
        Value::Array(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(',');
                }
                push_value(out, item);
            }
            out.push(']');
        }
        Value::Object(members) if members.is_empty() => out.push_str("[]"),
        Value::Object(members) => {
            for (at, (name, value)) in members.iter().enumerate() {
                out.push(if at == 0 { '{' } else { ',' });
                push_json_string(out, name, JsonTags::Hex);
                out.push(':');
                push_value(out, value);
            }
            out.push('}');
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => out.push_str(&value.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Result<Settings, SettingsError> {
        Settings::check(serde_json::from_str(text).unwrap())
    }

    #[test]
    fn the_first_fault_is_told() {
        for (text, error) in [
            ("{}", SettingsError::Id),
            (r#"{"id":null,"url":""}"#, SettingsError::Id),
            (r#"{"id":"","interval":1,"secret":""}"#, SettingsError::Url),
            (r#"{"id":"","url":"","secret":""}"#, SettingsError::Interval),
            (r#"{"id":"","url":"","interval":"0.9","secret":""}"#, SettingsError::Interval),
            (r#"{"id":"","url":"","interval":true,"secret":""}"#, SettingsError::Interval),
            (r#"{"id":"","url":"","interval":"-5","secret":""}"#, SettingsError::Interval),
            (r#"{"id":"","url":"","interval":1}"#, SettingsError::Secret),
            (r#"{"id":"","url":"","interval":1,"secret":"4f4"}"#, SettingsError::Secret),
            (r#"{"id":"","url":"","interval":1,"secret":12}"#, SettingsError::Secret),
        ] {
            assert_eq!(settings(text), Err(error), "{text}");
        }
    }

    #[test]
    fn settings_are_kept_as_they_were_posted() {
        let text = r#"{"id":["a"],"url":"http:\/\/x\/<","interval":" 5 ","secret":"4F4f"}"#;
        let read = settings(text).unwrap();
        assert_eq!(read.to_json(), text.replace('<', "\\u003C"));
        assert_eq!(Settings::from_json(&read.to_json()), Some(read.clone()));
        assert_eq!(read.connection(), None, "an id that is no text cannot be told");
        assert!(!format!("{read:?}").contains("4F4f"));
    }

    #[test]
    fn nobody_is_told_without_a_key_or_a_url() {
        let with = |url: &str, secret: &str| {
            let text = format!(r#"{{"id":7,"url":"{url}","interval":1.5,"secret":"{secret}"}}"#);
            settings(&text).unwrap().connection()
        };
        assert_eq!(with("", "4f"), None);
        assert_eq!(with("http://x/", ""), None);
        let connection = with("http://x/", "4f").unwrap();
        assert_eq!((connection.id.as_str(), connection.min_interval), ("7", Duration::from_secs(1)));
    }

    #[test]
    fn a_length_is_read_as_php_reads_it() {
        for (text, bytes) in [
            (None, 16),
            (Some("abc"), 16),
            (Some("0"), 16),
            (Some("-3"), 16),
            (Some("2.9"), 2),
            (Some("1e1"), 10),
            (Some("32"), 32),
            (Some("99999999999999999999"), 1024),
        ] {
            assert_eq!(secret_length(text, 1024), bytes, "{text:?}");
        }
    }
}
