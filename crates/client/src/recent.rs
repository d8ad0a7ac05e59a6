//! Reads the answer of Nextcloud's `recent`, in XML and in JSON, version 1 and 2.

use quick_xml::Reader;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::Event;
use serde::Deserialize;

/// A file of the list. The list is newest first.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct RecentFile {
    /// Its id, stable over renames and rewrites.
    pub id: i64,
    /// `file`; anything else is nothing to download.
    #[serde(default)]
    pub r#type: String,
    /// When its newest content arrived, seconds since the Unix epoch by the server's clock.
    pub time: i64,
    /// The last part of the path.
    pub name: String,
    /// The path from the account's root, with a leading `/`; hostile until proven otherwise.
    pub path: String,
    /// Who wrote it; empty if unknown.
    #[serde(default)]
    pub modified_user: String,
}

/// Why there is no list.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecentError {
    /// The server refused, in its own words.
    #[error("the server refused with {statuscode}: {message}")]
    Refused {
        /// The OCS statuscode.
        statuscode: i64,
        /// The message, or the data where the message is empty.
        message: String,
    },
    /// The answer is not an OCS answer with a list.
    #[error("the answer is not a list of recent files: {0}")]
    Malformed(String),
}

/// How deeply elements may be nested; a list needs five levels.
const DEPTH_MAX: usize = 32;

fn malformed(why: impl ToString) -> RecentError {
    RecentError::Malformed(why.to_string())
}

/// Whether a statuscode is that of success: 100 in version 1, 200 in version 2.
fn judged(statuscode: i64, message: &str, data: &str) -> Result<(), RecentError> {
    if matches!(statuscode, 100 | 200) {
        return Ok(());
    }
    let message = if message.trim().is_empty() { data } else { message };
    Err(RecentError::Refused { statuscode, message: message.trim().to_owned() })
}

/// Reads an answer in JSON.
pub fn read_json(answer: &[u8]) -> Result<Vec<RecentFile>, RecentError> {
    #[derive(Deserialize)]
    struct Answer {
        ocs: Ocs,
    }
    #[derive(Deserialize)]
    struct Ocs {
        meta: Meta,
        data: serde_json::Value,
    }
    #[derive(Deserialize)]
    struct Meta {
        statuscode: i64,
        message: Option<String>,
    }
    #[derive(Deserialize)]
    struct Data {
        files: Vec<RecentFile>,
    }
    let Answer { ocs: Ocs { meta, data } } = serde_json::from_slice(answer).map_err(malformed)?;
    judged(meta.statuscode, meta.message.as_deref().unwrap_or_default(), data.as_str().unwrap_or_default())?;
    let data: Data = serde_json::from_value(data).map_err(malformed)?;
    Ok(data.files)
}

/// Reads an answer in XML. Members that are not known are passed over.
pub fn read_xml(answer: &[u8]) -> Result<Vec<RecentFile>, RecentError> {
    let answer = std::str::from_utf8(answer).map_err(malformed)?;
    let mut reader = Reader::from_str(answer);
    let mut list = XmlList::default();
    loop {
        match reader.read_event().map_err(malformed)? {
            Event::Start(tag) => list.open(tag.name().as_ref())?,
            Event::End(_) => list.close()?,
            Event::Empty(tag) => {
                list.open(tag.name().as_ref())?;
                list.close()?;
            }
            Event::Text(text) => list.text.push_str(&text.xml10_content()),
            Event::CData(text) => list.text.push_str(&text.xml10_content()),
            Event::GeneralRef(reference) => match reference.resolve_char_ref().map_err(malformed)? {
                Some(char) => list.text.push(char),
                None => {
                    let known = resolve_predefined_entity(&reference);
                    list.text.push_str(known.ok_or_else(|| malformed("an unknown entity"))?);
                }
            },
            Event::Eof => return list.finish(),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => (),
        }
    }
}

/// What has been read of an answer in XML.
#[derive(Default)]
struct XmlList {
    /// The names of the open elements, outermost first.
    open: Vec<String>,
    /// The text since the last tag.
    text: String,
    statuscode: Option<i64>,
    message: String,
    data: String,
    has_files: bool,
    file: RecentFile,
    /// Which of the members that must be there have come: id, time, name, path.
    members: [bool; 4],
    files: Vec<RecentFile>,
}

impl XmlList {
    fn open(&mut self, name: &str) -> Result<(), RecentError> {
        if self.open.len() == DEPTH_MAX {
            return Err(malformed("it is nested too deeply"));
        }
        self.open.push(name.to_owned());
        self.text.clear();
        match self.open.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["ocs", "data", "files"] => self.has_files = true,
            ["ocs", "data", "files", "element"] => (self.file, self.members) = Default::default(),
            _ => (),
        }
        Ok(())
    }

    fn close(&mut self) -> Result<(), RecentError> {
        let text = std::mem::take(&mut self.text);
        let number = |text: &str| text.trim().parse::<i64>().map_err(malformed);
        let [has_id, has_time, has_name, has_path] = &mut self.members;
        match self.open.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
            ["ocs", "meta", "statuscode"] => self.statuscode = Some(number(&text)?),
            ["ocs", "meta", "message"] => self.message = text,
            ["ocs", "data"] => self.data = text,
            ["ocs", "data", "files", "element"] => {
                if self.members != [true; 4] {
                    return Err(malformed("a file without id, time, name or path"));
                }
                self.files.push(std::mem::take(&mut self.file));
            }
            ["ocs", "data", "files", "element", member] => match *member {
                "id" => (self.file.id, *has_id) = (number(&text)?, true),
                "time" => (self.file.time, *has_time) = (number(&text)?, true),
                "name" => (self.file.name, *has_name) = (text, true),
                "path" => (self.file.path, *has_path) = (text, true),
                "type" => self.file.r#type = text,
                "modified_user" => self.file.modified_user = text,
                _ => (),
            },
            _ => (),
        }
        self.open.pop();
        Ok(())
    }

    fn finish(self) -> Result<Vec<RecentFile>, RecentError> {
        if !self.open.is_empty() {
            return Err(malformed("it ends too early"));
        }
        judged(self.statuscode.ok_or_else(|| malformed("no statuscode"))?, &self.message, &self.data)?;
        if self.has_files { Ok(self.files) } else { Err(malformed("no files")) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use filebell_core::id::FileId;
    use filebell_core::time::TimestampSecs;
    use filebell_core::wire::ocs::{Failure, Format, Node, RecentRow, RecentWriter, Version, success};

    fn read(format: Format, answer: &[u8]) -> Result<Vec<RecentFile>, RecentError> {
        match format {
            Format::Xml => read_xml(answer),
            Format::Json => read_json(answer),
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let names = ["sp & <x>/q\"'&>.txt", "日本語😀.txt", " c\r\n\t]]>", ""];
        for version in [Version::V1, Version::V2] {
            for format in [Format::Xml, Format::Json] {
                for count in 0..=names.len() {
                    let mut writer = RecentWriter::new(version, format, count);
                    for (name, id) in names[..count].iter().zip(1..) {
                        let time = TimestampSecs::from_secs(9);
                        writer.row(&RecentRow { id: FileId::new(id), time, name, path: name, modified_user: "bob" });
                    }
                    let files = read(format, &writer.finish()).unwrap();
                    assert_eq!(files.iter().map(|file| file.path.as_str()).collect::<Vec<_>>(), names[..count]);
                    assert!(files.iter().zip(1..).all(|(file, id)| (file.id, file.time) == (id, 9)));
                }
            }
        }
    }

    #[test]
    fn a_refusal_is_told_in_its_own_words() {
        for (failure, statuscode, message) in [
            (Failure::SinceMissing, 400, "query parameter since is missing"),
            (Failure::NoCredentials, 997, "Current user is not logged in"),
            (Failure::Internal, 996, "Internal Server Error"),
        ] {
            for version in [Version::V1, Version::V2] {
                for format in [Format::Xml, Format::Json] {
                    let answer = failure.answer(version, format);
                    let expected = RecentError::Refused { statuscode, message: message.to_owned() };
                    assert_eq!(read(format, &answer.body), Err(expected));
                }
            }
        }
    }

    #[test]
    fn another_document_is_no_list() {
        let other = Node::map([("user", Node::text("x"))]);
        for format in [Format::Xml, Format::Json] {
            let answer = success(Version::V2, format, &other);
            assert!(matches!(read(format, &answer), Err(RecentError::Malformed(_))));
            assert!(matches!(read(format, &answer[..answer.len() / 2]), Err(RecentError::Malformed(_))));
        }
        assert!(
            matches!(read_xml("<a>".repeat(40).as_bytes()), Err(RecentError::Malformed(why)) if why.contains("deep"))
        );
        let no_id = "<ocs><meta><statuscode>100</statuscode></meta><data><files><element/></files></data></ocs>";
        assert!(matches!(read_xml(no_id.as_bytes()), Err(RecentError::Malformed(_))));
        for hostile in
            ["", "<ocs>", "<ocs></x>", "&bomb;", "<!DOCTYPE a [<!ENTITY b 'c'>]><ocs>&b;</ocs>", "{}", "null"]
        {
            assert!(read_xml(hostile.as_bytes()).is_err() && read_json(hostile.as_bytes()).is_err(), "{hostile}");
        }
    }
}
