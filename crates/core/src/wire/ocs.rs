//! The envelope of Nextcloud's OCS answers, in both versions and both formats, exactly as PHP writes it.
//!
//! Sections named here are those of the protocol's specification: B for `recent`, C for the envelope.

use std::borrow::Cow;
use std::fmt::Write as _;

use crate::id::FileId;
use crate::time::TimestampSecs;

/// Which door the request came in by: `/ocs/v1.php` or `/ocs/v2.php`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// Success is statuscode 100, and nearly every answer is HTTP 200.
    V1,
    /// Success is statuscode 200, and the HTTP status tells failures apart.
    V2,
}

/// How the envelope is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// XML, the default.
    Xml,
    /// JSON.
    Json,
}

impl Format {
    /// The content type of an answer that a controller gave (C7).
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Xml => "application/xml; charset=utf-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }

    /// The content type of an answer given before any controller was reached, a 405 among them (C7).
    pub const fn early_content_type(self) -> &'static str {
        match self {
            Self::Xml => "text/xml; charset=UTF-8",
            Self::Json => "application/json; charset=utf-8",
        }
    }

    /// What the parameter `format` alone asks for: where no controller is reached, `Accept` is not looked at (C7).
    pub fn of_parameter(parameter: Option<&str>) -> Self {
        if parameter == Some("json") { Self::Json } else { Self::Xml }
    }

    /// What a request for a controller asks for (C7): the parameter if given, else the first item of `Accept` that
    /// is exactly a format we know, else XML. An item with a quality never matches.
    pub fn negotiate(parameter: Option<&str>, accept: Option<&str>) -> Result<Self, Failure> {
        let by_name = |name: &str| match name {
            "xml" => Some(Self::Xml),
            "json" => Some(Self::Json),
            _ => None,
        };
        match parameter {
            Some(name) => by_name(name).ok_or(Failure::UnknownFormat),
            None => Ok(accept
                .unwrap_or_default()
                .split(',')
                .find_map(|item| by_name(&item.trim().to_ascii_lowercase().replace("application/", "")))
                .unwrap_or(Self::Xml)),
        }
    }
}

/// A value of an answer, as a PHP array would hold it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Node {
    /// A string.
    Text(Cow<'static, str>),
    /// A number.
    Int(i64),
    /// A number of hundredths: `1234` is 12.34, and `1200` is 12.
    Hundredths(u64),
    /// A truth value: `1` or nothing in XML.
    Bool(bool),
    /// Nothing.
    Null,
    /// Values in order; `<element>` each in XML.
    List(Vec<Node>),
    /// Named values in order. An empty one is written as an empty list, as PHP cannot tell them apart.
    Map(Vec<(Cow<'static, str>, Node)>),
}

impl Node {
    /// A string.
    pub fn text(text: impl Into<Cow<'static, str>>) -> Self {
        Self::Text(text.into())
    }

    /// Named values in this order.
    pub fn map<const N: usize>(members: [(&'static str, Self); N]) -> Self {
        Self::Map(members.into_iter().map(|(name, value)| (Cow::Borrowed(name), value)).collect())
    }

    /// JSON as Nextcloud's HTTP answers have it: `/`, `<`, `>` and all non-ASCII characters escaped (C2).
    pub fn to_json(&self) -> String {
        let mut out = String::new();
        self.push_json(&mut out);
        out
    }

    fn push_json(&self, out: &mut String) {
        match self {
            Self::Text(text) => push_json_string(out, text, JsonTags::Hex),
            Self::Int(number) => out.push_str(&number.to_string()),
            Self::Hundredths(number) => out.push_str(&hundredths(*number)),
            Self::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
            Self::Null => out.push_str("null"),
            Self::Map(members) if members.is_empty() => out.push_str("[]"),
            Self::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    out.push(if at == 0 { '[' } else { ',' });
                    item.push_json(out);
                }
                out.push_str(if items.is_empty() { "[]" } else { "]" });
            }
            Self::Map(members) => {
                for (at, (name, value)) in members.iter().enumerate() {
                    out.push(if at == 0 { '{' } else { ',' });
                    push_json_string(out, name, JsonTags::Hex);
                    out.push(':');
                    value.push_json(out);
                }
                out.push('}');
            }
        }
    }

    /// One element on lines of its own, indented by one space a level, as PHP's XMLWriter does (C1).
    fn push_xml(&self, out: &mut String, name: &str, depth: usize) {
        let number;
        let text = match self {
            Self::Text(text) => Some(&**text),
            Self::Bool(truth) => Some(if *truth { "1" } else { "" }),
            Self::Int(int) => {
                number = int.to_string();
                Some(number.as_str())
            }
            Self::Hundredths(int) => {
                number = hundredths(*int);
                Some(number.as_str())
            }
            Self::Null => None,
            Self::List(items) if !items.is_empty() => {
                push_xml_tag(out, "<", name, depth);
                items.iter().for_each(|item| item.push_xml(out, "element", depth + 1));
                return push_xml_tag(out, "</", name, depth);
            }
            Self::Map(members) if !members.is_empty() => {
                push_xml_tag(out, "<", name, depth);
                members.iter().for_each(|(name, value)| value.push_xml(out, name, depth + 1));
                return push_xml_tag(out, "</", name, depth);
            }
            Self::List(_) | Self::Map(_) => None,
        };
        indent(out, depth);
        match text {
            None => push_all(out, &["<", name, "/>\n"]),
            Some(text) => {
                push_all(out, &["<", name, ">"]);
                push_xml_text(out, text);
                push_all(out, &["</", name, ">\n"]);
            }
        }
    }
}

/// As PHP writes a number: without zeros at its end.
fn hundredths(number: u64) -> String {
    let text = format!("{}.{:02}", number / 100, number % 100);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

fn push_all(out: &mut String, parts: &[&str]) {
    parts.iter().for_each(|part| out.push_str(part));
}

fn indent(out: &mut String, depth: usize) {
    out.extend(std::iter::repeat_n(' ', depth));
}

fn push_xml_tag(out: &mut String, opening: &str, name: &str, depth: usize) {
    indent(out, depth);
    push_all(out, &[opening, name, ">\n"]);
}

/// Escapes text as PHP's XMLWriter does (C1). Characters that no XML 1.0 document may hold become U+FFFD, where
/// PHP would write a document that nobody can read.
pub fn push_xml_text(out: &mut String, text: &str) {
    for char in text.chars() {
        match char {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\r' => out.push_str("&#13;"),
            '\t' | '\n' => out.push(char),
            '\0'..='\u{1f}' | '\u{fffe}' | '\u{ffff}' => out.push(char::REPLACEMENT_CHARACTER),
            _ => out.push(char),
        }
    }
}

/// What PHP's `json_encode` does with `<` and `>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JsonTags {
    /// Leaves them: the notification (A1).
    Raw,
    /// Writes `\u003C` and `\u003E`: the answers of the HTTP API (C2).
    Hex,
}

/// Writes a string with its quotes as PHP's `json_encode` does: `/` escaped, all but ASCII as `\uxxxx`.
pub fn push_json_string(out: &mut String, text: &str, tags: JsonTags) {
    out.push('"');
    for char in text.chars() {
        match char {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '/' => out.push_str("\\/"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '<' if tags == JsonTags::Hex => out.push_str("\\u003C"),
            '>' if tags == JsonTags::Hex => out.push_str("\\u003E"),
            ' '..='\u{7f}' => out.push(char),
            _ => {
                for unit in char.encode_utf16(&mut [0; 2]) {
                    // Writing to a string cannot fail.
                    let _ = write!(out, "\\u{unit:04x}");
                }
            }
        }
    }
    out.push('"');
}

/// The part of an envelope before its data: `<data>` or `"data":` comes next.
fn head(version: Version, format: Format, status: &'static str, statuscode: u16, message: &str) -> String {
    let mut meta = vec![
        (Cow::Borrowed("status"), Node::text(status)),
        (Cow::Borrowed("statuscode"), Node::Int(statuscode.into())),
        (Cow::Borrowed("message"), Node::text(message.to_owned())),
    ];
    if version == Version::V1 {
        meta.extend(["totalitems", "itemsperpage"].map(|name| (Cow::Borrowed(name), Node::text(""))));
    }
    let meta = Node::Map(meta);
    let mut out = String::new();
    match format {
        Format::Xml => {
            out.push_str("<?xml version=\"1.0\"?>\n<ocs>\n");
            meta.push_xml(&mut out, "meta", 1);
        }
        Format::Json => {
            out.push_str(r#"{"ocs":{"meta":"#);
            meta.push_json(&mut out);
            out.push_str(r#","data":"#);
        }
    }
    out
}

fn success_head(version: Version, format: Format) -> String {
    let statuscode = match version {
        Version::V1 => 100,
        Version::V2 => 200,
    };
    head(version, format, "ok", statuscode, "OK")
}

fn with_data(mut head: String, format: Format, data: &Node) -> Vec<u8> {
    match format {
        Format::Xml => {
            data.push_xml(&mut head, "data", 1);
            head.push_str("</ocs>\n");
        }
        Format::Json => {
            data.push_json(&mut head);
            head.push_str("}}");
        }
    }
    head.into_bytes()
}

/// A successful answer; its HTTP status is 200.
pub fn success(version: Version, format: Format, data: &Node) -> Vec<u8> {
    with_data(success_head(version, format), format, data)
}

/// Why a request is not answered with data (C3). The texts are part of the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// `recent` without `since`.
    #[error("query parameter since is missing")]
    SinceMissing,
    /// `recent` with a `since` that is no number, or a negative one.
    #[error("since is invalid number")]
    SinceInvalid,
    /// User name and password do not fit.
    #[error("Unauthorised")]
    WrongPassword,
    /// None were given.
    #[error("Current user is not logged in")]
    NoCredentials,
    /// Only for administrators.
    #[error("Logged in account must be an admin, a sub admin or gotten special right to access this setting")]
    NotAdmin,
    /// No such route, or no such app.
    #[error(
        "Invalid query, please check the syntax. API specifications are here: http://www.freedesktop.org/wiki/Specifications/open-collaboration-services.\n"
    )]
    UnknownRoute,
    /// Something of ours failed.
    #[error("Internal Server Error\n")]
    Internal,
    /// `format` is neither `xml` nor `json`.
    #[error("Internal Server Error\n")]
    UnknownFormat,
    /// The password is not even looked at after so many failures.
    #[error("Reached maximum delay")]
    TooManyLogins,
    /// Nothing is served now. The answer also carries `X-Nextcloud-Maintenance-Mode: 1`.
    #[error("Service unavailable")]
    Maintenance,
    /// Any other refusal of a controller.
    #[error("{message}")]
    Refused {
        /// The OCS statuscode.
        statuscode: u16,
        /// What is wrong.
        message: Cow<'static, str>,
    },
}

/// A whole HTTP answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Content-Type`.
    pub content_type: &'static str,
    /// The bytes.
    pub body: Vec<u8>,
}

impl Failure {
    /// The number in the envelope, the same in both versions (C3).
    pub const fn statuscode(&self) -> u16 {
        match self {
            Self::SinceMissing | Self::SinceInvalid => 400,
            Self::WrongPassword | Self::NoCredentials => 997,
            Self::NotAdmin => 403,
            Self::UnknownRoute => 998,
            Self::Internal | Self::UnknownFormat => 996,
            Self::TooManyLogins => 429,
            Self::Maintenance => 503,
            Self::Refused { statuscode: 0, .. } => 999,
            Self::Refused { statuscode, .. } => *statuscode,
        }
    }

    /// Whether it is answered before a controller is reached, with the older content type (C7).
    pub const fn is_early(&self) -> bool {
        matches!(
            self,
            Self::WrongPassword | Self::UnknownRoute | Self::Internal | Self::TooManyLogins | Self::Maintenance
        )
    }

    /// The answer in full. `format` is [`Format::of_parameter`] for early ones, [`Format::negotiate`] for others.
    pub fn answer(&self, version: Version, format: Format) -> Answer {
        let (format, content_type) = match self {
            Self::UnknownFormat => (Format::Xml, "application/octet-stream; charset=utf-8"),
            _ if self.is_early() => (format, format.early_content_type()),
            _ => (format, format.content_type()),
        };
        let text = self.to_string();
        // A wrong parameter is explained in the data, everything else in the message.
        let (message, data) = match self {
            Self::SinceMissing | Self::SinceInvalid => (String::new(), Node::text(text)),
            _ => (text, Node::List(Vec::new())),
        };
        let head = head(version, format, "failure", self.statuscode(), &message);
        Answer { status: http_status(version, self.statuscode()), content_type, body: with_data(head, format, &data) }
    }
}

/// The HTTP status that goes with a statuscode (C3).
pub const fn http_status(version: Version, statuscode: u16) -> u16 {
    match (version, statuscode) {
        (_, 997) => 401,
        (_, 503) => 503,
        (Version::V1, _) => 200,
        (Version::V2, 998) => 404,
        (Version::V2, 996 | 999) => 500,
        (Version::V2, 100) => 200,
        (Version::V2, 0..200 | 601..) => 400,
        (Version::V2, other) => other,
    }
}

/// The value of a PHP 8 numeric string as `intval` gives it, or `None` if the text is not numeric (B2).
///
/// Truncates towards zero; numbers too large saturate, except that an infinite one is zero.
pub fn php_intval(text: &str) -> Option<i64> {
    let text = text.trim_matches([' ', '\t', '\n', '\r', '\u{b}', '\u{c}']);
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = digits(whole) && digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    if !is_number || exponent.is_some_and(|part| part.is_empty() || !digits(part)) {
        return None;
    }
    if mantissa == whole && exponent.is_none() {
        return Some(text.parse().unwrap_or(if text.starts_with('-') { i64::MIN } else { i64::MAX }));
    }
    let value: f64 = text.parse().ok()?;
    #[expect(clippy::cast_possible_truncation, reason = "cut off towards zero and held at the ends, as PHP does")]
    Some(if value.is_finite() { value as i64 } else { 0 })
}

/// Reads the parameter `since` of `recent`; the order of the checks is that of B2. Pass an empty text for an array.
pub fn parse_since(text: Option<&str>) -> Result<TimestampSecs, Failure> {
    let secs = php_intval(text.ok_or(Failure::SinceMissing)?).filter(|secs| *secs >= 0);
    secs.map(TimestampSecs::from_secs).ok_or(Failure::SinceInvalid)
}

/// One file of `recent` (B3). Its type is always `file`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecentRow<'a> {
    /// The file's id, stable over renames.
    pub id: FileId,
    /// When its newest content arrived.
    pub time: TimestampSecs,
    /// The last part of the path.
    pub name: &'a str,
    /// The path from the caller's root, with a leading `/`.
    pub path: &'a str,
    /// Who wrote that content; empty if unknown.
    pub modified_user: &'a str,
}

/// Writes the answer of `recent` row by row, so that a long list is held in memory once at most.
///
/// [`Self::take`] gives what has been written so far, for an answer that is sent in pieces.
#[derive(Debug)]
pub struct RecentWriter {
    format: Format,
    out: String,
    any: bool,
}

impl RecentWriter {
    /// Begins an answer of `count` rows, newest first.
    pub fn new(version: Version, format: Format, count: usize) -> Self {
        let mut out = success_head(version, format);
        match format {
            Format::Xml => out.push_str(&format!(" <data>\n  <count>{count}</count>\n")),
            Format::Json => out.push_str(&format!(r#"{{"count":{count},"files":"#)),
        }
        Self { format, out, any: false }
    }

    /// Writes one row.
    pub fn row(&mut self, row: &RecentRow<'_>) {
        let out = &mut self.out;
        match (self.format, self.any) {
            (Format::Xml, false) => out.push_str("  <files>\n"),
            (Format::Json, false) => out.push('['),
            (Format::Xml, true) => (),
            (Format::Json, true) => out.push(','),
        }
        self.any = true;
        let (id, time) = (row.id.get(), row.time);
        match self.format {
            Format::Xml => {
                out.push_str(&format!(
                    "   <element>\n    <id>{id}</id>\n    <type>file</type>\n    <time>{time}</time>\n"
                ));
                for (name, text) in [("name", row.name), ("path", row.path), ("modified_user", row.modified_user)] {
                    push_all(out, &["    <", name, ">"]);
                    push_xml_text(out, text);
                    push_all(out, &["</", name, ">\n"]);
                }
                out.push_str("   </element>\n");
            }
            Format::Json => {
                out.push_str(&format!(r#"{{"id":{id},"type":"file","time":{time}"#));
                for (name, text) in [("name", row.name), ("path", row.path), ("modified_user", row.modified_user)] {
                    push_all(out, &[",\"", name, "\":"]);
                    push_json_string(out, text, JsonTags::Hex);
                }
                out.push('}');
            }
        }
    }

    /// What has been written and not yet taken.
    pub fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.out).into_bytes()
    }

    /// The rest, up to the end of the document.
    pub fn finish(mut self) -> Vec<u8> {
        self.out.push_str(match (self.format, self.any) {
            (Format::Xml, true) => "  </files>\n </data>\n</ocs>\n",
            (Format::Xml, false) => "  <files/>\n </data>\n</ocs>\n",
            (Format::Json, true) => "]}}}",
            (Format::Json, false) => "[]}}}",
        });
        self.out.into_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn since_is_read_as_php_reads_it() {
        let max = i64::MAX;
        for (text, secs) in [
            ("0", 0),
            ("12.9", 12),
            ("1e3", 1000),
            ("-0.5", 0),
            ("-0", 0),
            ("+7", 7),
            (".5", 0),
            ("1.", 1),
            (" \t\n\r\u{b}\u{c}5 \n", 5),
            ("1E+2", 100),
            ("1795366190", 1_795_366_190),
            ("99999999999999999999", max),
            ("1e30", max),
            ("1e400", 0),
        ] {
            assert_eq!(parse_since(Some(text)), Ok(TimestampSecs::from_secs(secs)), "{text:?}");
        }
        for text in [
            "", " ", "abc", "0x1A", "1_0", "-1", "-1e3", "INF", "NAN", "1e", "e1", ".", "+", "1 2", "1.2.3", "1e2e3",
            "٣",
        ] {
            assert_eq!(parse_since(Some(text)), Err(Failure::SinceInvalid), "{text:?}");
        }
        assert_eq!(parse_since(None), Err(Failure::SinceMissing));
    }

    #[test]
    fn the_format_is_chosen_as_nextcloud_chooses_it() {
        for (parameter, accept, format) in [
            (None, None, Ok(Format::Xml)),
            (None, Some("application/json"), Ok(Format::Json)),
            (None, Some("text/html, application/json;q=0.9"), Ok(Format::Xml)),
            (None, Some("text/html , JSON"), Ok(Format::Json)),
            (None, Some("application/xml,application/json"), Ok(Format::Xml)),
            (Some("xml"), Some("application/json"), Ok(Format::Xml)),
            (Some("json"), None, Ok(Format::Json)),
            (Some("JSON"), None, Err(Failure::UnknownFormat)),
            (Some("yaml"), Some("application/json"), Err(Failure::UnknownFormat)),
            (Some(""), None, Err(Failure::UnknownFormat)),
        ] {
            assert_eq!(Format::negotiate(parameter, accept), format, "{parameter:?} {accept:?}");
        }
        assert_eq!(Format::of_parameter(Some("yaml")), Format::Xml);
    }

    #[test]
    fn every_statuscode_has_its_http_status() {
        for (statuscode, v1, v2) in [
            (100, 200, 200),
            (200, 200, 200),
            (400, 200, 400),
            (403, 200, 403),
            (429, 200, 429),
            (503, 503, 503),
            (996, 200, 500),
            (997, 401, 401),
            (998, 200, 404),
            (999, 200, 500),
            (104, 200, 400),
            (700, 200, 400),
        ] {
            assert_eq!((http_status(Version::V1, statuscode), http_status(Version::V2, statuscode)), (v1, v2));
        }
        assert_eq!(Failure::Refused { statuscode: 0, message: "x".into() }.statuscode(), 999);
    }

    #[test]
    fn rows_and_tree_write_the_same_bytes() {
        let rows = [
            RecentRow {
                id: FileId::new(2),
                time: TimestampSecs::from_secs(9),
                name: "a<\u{1}\r\n.txt",
                path: "/日本/a<\u{1}\r\n.txt",
                modified_user: "",
            },
            RecentRow {
                id: FileId::new(1),
                time: TimestampSecs::from_secs(8),
                name: "b",
                path: "/b",
                modified_user: "bob",
            },
        ];
        for count in 0..=rows.len() {
            let files = rows[..count].iter().map(|row| {
                Node::map([
                    ("id", Node::Int(row.id.get())),
                    ("type", Node::text("file")),
                    ("time", Node::Int(row.time.as_secs())),
                    ("name", Node::text(row.name)),
                    ("path", Node::text(row.path)),
                    ("modified_user", Node::text(row.modified_user)),
                ])
            });
            let tree = Node::map([
                ("count", Node::Int(i64::try_from(count).unwrap())),
                ("files", Node::List(files.collect())),
            ]);
            for version in [Version::V1, Version::V2] {
                for format in [Format::Xml, Format::Json] {
                    let mut writer = RecentWriter::new(version, format, count);
                    let mut written = writer.take();
                    rows[..count].iter().for_each(|row| writer.row(row));
                    written.extend(writer.finish());
                    assert_eq!(written, success(version, format, &tree));
                }
            }
        }
    }

    #[test]
    fn what_xml_cannot_hold_is_replaced() {
        let mut out = String::new();
        push_xml_text(&mut out, "\0a\u{8}\u{1f}\u{fffe}\u{ffff}\t\n\r'\u{7f}");
        assert_eq!(out, "\u{fffd}a\u{fffd}\u{fffd}\u{fffd}\u{fffd}\t\n&#13;'\u{7f}");
    }
}
