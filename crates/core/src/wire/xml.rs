//! Small XML documents that clients send: read whole, bounded, without anything that could grow them.

use std::fmt::Write as _;

use quick_xml::XmlVersion;
use quick_xml::escape::resolve_predefined_entity;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::ResolveResult;
use quick_xml::reader::NsReader;

use super::ocs::push_xml_text;

/// Elements within elements at most.
const DEPTH_MAX: usize = 32;

/// `{namespace}local`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Name {
    /// The namespace; empty where there is none.
    pub namespace: String,
    /// The name in it, without a prefix.
    pub local: String,
}

impl Name {
    /// Whether it is this name.
    pub fn is(&self, namespace: &str, local: &str) -> bool {
        (self.namespace.as_str(), self.local.as_str()) == (namespace, local)
    }

    /// The form in which it is kept.
    pub fn to_text(&self) -> String {
        format!("{{{}}}{}", self.namespace, self.local)
    }

    /// Reads what [`Self::to_text`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let (namespace, local) = text.strip_prefix('{')?.rsplit_once('}')?;
        Some(Self { namespace: namespace.to_owned(), local: local.to_owned() })
    }
}

/// An element with all that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Element {
    /// Its name.
    pub name: Name,
    attributes: Vec<(String, String)>,
    content: Vec<Content>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Content {
    Text(String),
    Element(Element),
}

/// It is not XML as we read it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not XML, or nested deeper than {DEPTH_MAX} elements, or has a document type")]
pub struct NotXml;

impl Element {
    /// The elements directly in it.
    pub fn children(&self) -> impl Iterator<Item = &Self> {
        self.content.iter().filter_map(|content| match content {
            Content::Element(element) => Some(element),
            Content::Text(_) => None,
        })
    }

    /// What is in it, as XML that means the same in any element.
    pub fn inner(&self) -> String {
        let mut out = String::new();
        self.push_content(&mut out);
        out
    }

    fn push_content(&self, out: &mut String) {
        for content in &self.content {
            match content {
                Content::Text(text) => push_xml_text(out, text),
                Content::Element(element) => element.push(out),
            }
        }
    }

    fn push(&self, out: &mut String) {
        let Name { namespace, local } = &self.name;
        // Writing to a string cannot fail.
        let _ = write!(out, "<x:{local} xmlns:x=\"");
        if namespace.is_empty() {
            out.truncate(out.len().saturating_sub(local.len() + "<x: xmlns:x=\"".len()));
            let _ = write!(out, "<{local} xmlns=\"");
        }
        push_xml_text(out, namespace);
        out.push('"');
        for (name, value) in &self.attributes {
            let _ = write!(out, " {name}=\"");
            push_xml_text(out, value);
            out.push('"');
        }
        out.push('>');
        self.push_content(out);
        let prefix = if namespace.is_empty() { "" } else { "x:" };
        let _ = write!(out, "</{prefix}{local}>");
    }
}

/// Reads a document. Document types, and with them entities of one's own, are refused.
pub fn read(bytes: &[u8]) -> Result<Element, NotXml> {
    let text = std::str::from_utf8(bytes).map_err(|_| NotXml)?;
    let mut reader = NsReader::from_str(text.strip_prefix('\u{feff}').unwrap_or(text));
    let mut open: Vec<Element> = Vec::new();
    loop {
        let event = reader.read_event().map_err(|_| NotXml)?;
        let closed = match event {
            Event::Start(tag) => {
                if open.len() >= DEPTH_MAX {
                    return Err(NotXml);
                }
                open.push(element(&reader, &tag)?);
                continue;
            }
            Event::Empty(tag) => element(&reader, &tag)?,
            Event::End(_) => open.pop().ok_or(NotXml)?,
            Event::Text(text) => {
                push_text(&mut open, &text.xml10_content())?;
                continue;
            }
            Event::CData(text) => {
                push_text(&mut open, &text.xml10_content())?;
                continue;
            }
            Event::GeneralRef(reference) => {
                match reference.resolve_char_ref().map_err(|_| NotXml)? {
                    Some(char) => push_text(&mut open, char.encode_utf8(&mut [0; 4]))?,
                    None => push_text(&mut open, resolve_predefined_entity(&reference).ok_or(NotXml)?)?,
                }
                continue;
            }
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) => continue,
            Event::DocType(_) | Event::Eof => return Err(NotXml),
        };
        match open.last_mut() {
            Some(parent) => parent.content.push(Content::Element(closed)),
            None => return Ok(closed),
        }
    }
}

fn push_text(open: &mut [Element], text: &str) -> Result<(), NotXml> {
    match open.last_mut() {
        Some(parent) => match parent.content.last_mut() {
            Some(Content::Text(before)) => before.push_str(text),
            _ => parent.content.push(Content::Text(text.to_owned())),
        },
        None if text.trim().is_empty() => (),
        None => return Err(NotXml),
    }
    Ok(())
}

fn element(reader: &NsReader<&[u8]>, tag: &BytesStart<'_>) -> Result<Element, NotXml> {
    let (namespace, local) = reader.resolver().resolve_element(tag.name());
    let namespace = match namespace {
        ResolveResult::Bound(namespace) if namespace.as_ref().is_empty() => return Err(NotXml),
        ResolveResult::Bound(namespace) => namespace.as_ref().to_owned(),
        ResolveResult::Unbound => String::new(),
        ResolveResult::Unknown(_) => return Err(NotXml),
    };
    if !is_name(local.as_ref()) {
        return Err(NotXml);
    }
    let mut attributes = Vec::new();
    for attribute in tag.attributes() {
        let attribute = attribute.map_err(|_| NotXml)?;
        let name: &str = attribute.key.as_ref();
        // Attributes with prefixes of their own are dropped, but for `xml:`, which needs no declaration.
        if !name.starts_with("xmlns") && (!name.contains(':') || name.starts_with("xml:")) {
            if !is_name(name.strip_prefix("xml:").unwrap_or(name)) {
                return Err(NotXml);
            }
            let value = attribute.normalized_value(XmlVersion::Implicit1_0).map_err(|_| NotXml)?;
            attributes.push((name.to_owned(), value.into_owned()));
        }
    }
    let name = Name { namespace, local: local.as_ref().to_owned() };
    Ok(Element { name, attributes, content: Vec::new() })
}

/// Whether a text is a name without a prefix, an `NCName` of "Namespaces in XML". The reader takes anything up to a
/// blank, and what we take we write again.
fn is_name(text: &str) -> bool {
    let begins = |char: char| {
        matches!(char, 'A'..='Z' | 'a'..='z' | '_' | '\u{c0}'..='\u{d6}' | '\u{d8}'..='\u{f6}' | '\u{f8}'..='\u{2ff}'
            | '\u{370}'..='\u{37d}' | '\u{37f}'..='\u{1fff}' | '\u{200c}'..='\u{200d}' | '\u{2070}'..='\u{218f}'
            | '\u{2c00}'..='\u{2fef}' | '\u{3001}'..='\u{d7ff}' | '\u{f900}'..='\u{fdcf}' | '\u{fdf0}'..='\u{fffd}'
            | '\u{10000}'..='\u{effff}')
    };
    let goes_on = |char: char| {
        begins(char)
            || matches!(char, '-' | '.' | '0'..='9' | '\u{b7}' | '\u{300}'..='\u{36f}' | '\u{203f}'..='\u{2040}')
    };
    text.starts_with(begins) && text.chars().all(goes_on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_mean_the_same_elsewhere() {
        let read = read(
            b"<?xml version='1.0'?><a:v xmlns:a='urn:a'>x &amp; &#65536;<b xmlns='urn:b' c='&lt;1'><a:d/></b><e/></a:v>",
        )
        .unwrap();
        assert!(read.name.is("urn:a", "v"));
        assert_eq!(
            read.inner(),
            "x &amp; \u{10000}<x:b xmlns:x=\"urn:b\" c=\"&lt;1\"><x:d xmlns:x=\"urn:a\"></x:d></x:b><e xmlns=\"\"></e>"
        );
        assert_eq!(read.children().count(), 2);
        assert_eq!(Name::parse(&read.name.to_text()), Some(read.name));
    }

    #[test]
    fn what_could_grow_or_is_none_is_refused() {
        let deep = format!("{}{}", "<a>".repeat(40), "</a>".repeat(40));
        for wrong in [
            "",
            "x",
            "<a>",
            "<a></b>",
            "<p:a/>",
            "<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>",
            "<a>&b;</a>",
            "<a xmlns:p=''><p:b/></a>",
            "<a<b/>",
            "<a}b/>",
            "<a&b/>",
            "<1a/>",
            "<a\0/>",
            "<a xmlns:b='c'><b:c:d/></a>",
            "<a b<c='d'/>",
            &deep,
        ] {
            assert_eq!(read(wrong.as_bytes()), Err(NotXml), "{wrong}");
        }
        assert_eq!(read(b"<a>\xff</a>"), Err(NotXml));
    }

    proptest::proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(text in "(<|>|/|a|b:|xmlns|=|'|&|#|;|x|!|\\[|\\]|-| ){0,40}") {
            if let Ok(element) = read(text.as_bytes()) {
                let again = read(format!("<r>{}</r>", element.inner()).as_bytes());
                proptest::prop_assert_eq!(again.map(|again| again.inner()), Ok(element.inner()));
            }
        }
    }
}
