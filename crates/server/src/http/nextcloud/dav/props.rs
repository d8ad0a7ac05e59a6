//! PROPFIND and PROPPATCH, as SabreDAV in a Nextcloud writes them.

use std::fmt::Write as _;

use axum::body::{Body, Bytes};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use dav_server::ls::DavLock;
use filebell_core::path::FilePath;
use filebell_core::wire::ocs::push_xml_text;
use filebell_core::wire::xml::{self, Element, Name};
use futures_util::stream::{self, StreamExt};
use jiff::Timestamp;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use super::{Refusal, Site, answer_xml, instance_id, unix_time};
use crate::ops::{Entry, OpsError};

const DAV: &str = "DAV:";
const OWNCLOUD: &str = "http://owncloud.org/ns";
const NEXTCLOUD: &str = "http://nextcloud.org/ns";
const NAMESPACES: [(&str, &str); 4] =
    [("d", DAV), ("s", "http://sabredav.org/ns"), ("oc", OWNCLOUD), ("nc", NEXTCLOUD)];
/// Entries of a directory that are written together.
const PAGE_ENTRIES: usize = 500;
/// What an href leaves as it is.
const PLAIN: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/').remove(b'(').remove(b')');
/// What clients set when a file was last changed by, in seconds since the epoch: not the property that shows it.
const LAST_MODIFIED: &str = "lastmodified";
/// The longest value of a dead property.
const VALUE_BYTES_MAX: usize = 64 * 1024;

/// What a PROPFIND asks for.
#[derive(Clone)]
enum Wanted {
    All,
    Names,
    These(Vec<Name>),
}

pub(super) async fn find(
    site: Site,
    path: Option<FilePath>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Refusal> {
    let wanted = wanted(body)?;
    let entry = site.ops.entry(&site.caller, path.clone()).await?;
    // Without a depth, and with an infinite one, the original goes one level down.
    let deep = headers.get("depth").is_none_or(|depth| depth != "0") && entry.is_directory();
    let mut begin = head();
    push_entry(&site, &mut begin, &entry, &wanted).await?;
    if !deep {
        begin.push_str("</d:multistatus>\n");
        return Ok(multistatus(begin.into()));
    }
    let names = site.ops.names(&site.caller, path.clone()).await?;
    let pages: Vec<Vec<Vec<u8>>> = names.chunks(PAGE_ENTRIES).map(<[_]>::to_vec).collect();
    let pages = stream::iter(pages).then(move |names| {
        let (site, path, wanted) = (site.clone(), path.clone(), wanted.clone());
        async move {
            let mut out = String::new();
            for entry in site.ops.entries(&site.caller, path, names).await? {
                push_entry(&site, &mut out, &entry, &wanted).await?;
            }
            Ok::<_, OpsError>(Bytes::from(out))
        }
    });
    let end = stream::iter([Ok(Bytes::from_static(b"</d:multistatus>\n"))]);
    Ok(multistatus(Body::from_stream(stream::iter([Ok(Bytes::from(begin))]).chain(pages).chain(end))))
}

fn wanted(body: &[u8]) -> Result<Wanted, Refusal> {
    if body.is_empty() {
        return Ok(Wanted::All);
    }
    let wrong = || Refusal::bad_request("The request body is not a PROPFIND");
    let root = xml::read(body).map_err(|_| wrong())?;
    if !root.name.is(DAV, "propfind") {
        return Err(wrong());
    }
    for child in root.children() {
        match (child.name.namespace.as_str(), child.name.local.as_str()) {
            (DAV, "prop") => return Ok(Wanted::These(child.children().map(|name| name.name.clone()).collect())),
            (DAV, "allprop") => return Ok(Wanted::All),
            (DAV, "propname") => return Ok(Wanted::Names),
            _ => (),
        }
    }
    Err(wrong())
}

fn head() -> String {
    let mut out = String::from("<?xml version=\"1.0\"?>\n<d:multistatus");
    for (prefix, namespace) in NAMESPACES {
        // Writing to a string cannot fail, here and below.
        let _ = write!(out, " xmlns:{prefix}=\"{namespace}\"");
    }
    out.push('>');
    out
}

fn multistatus(body: Body) -> Response {
    answer_xml(StatusCode::MULTI_STATUS, body)
}

fn push_href(out: &mut String, site: &Site, entry_path: Option<&FilePath>, directory: bool) {
    let path = entry_path.map(FilePath::as_bytes).unwrap_or_default();
    let slash = if directory { "/" } else { "" };
    let _ = write!(out, "<d:href>{}{}{slash}</d:href>", site.base, percent_encode(path, PLAIN));
}

async fn push_entry(site: &Site, out: &mut String, entry: &Entry, wanted: &Wanted) -> Result<(), OpsError> {
    let all = if entry.is_directory() {
        ["getlastmodified", "resourcetype", "quota-used-bytes", "quota-available-bytes", "getetag"].as_slice()
    } else {
        ["getlastmodified", "getcontentlength", "resourcetype", "getetag", "getcontenttype"].as_slice()
    };
    let all = || all.iter().map(|local| Name { namespace: DAV.to_owned(), local: (*local).to_owned() });
    let names: Vec<Name> = match wanted {
        Wanted::These(names) => names.clone(),
        Wanted::All => all().collect(),
        Wanted::Names => {
            let dead = entry.properties.iter().filter_map(|property| Name::parse(&property.name));
            all().chain(dead).collect()
        }
    };
    let (mut found, mut missing) = (String::new(), String::new());
    for name in names {
        match value(site, entry, &name).await? {
            Some(Value::Empty) => push_element(&mut found, &name, None),
            Some(Value::Xml(_)) if matches!(wanted, Wanted::Names) => push_element(&mut found, &name, None),
            Some(Value::Xml(value)) => push_element(&mut found, &name, Some(&value)),
            None => push_element(&mut missing, &name, None),
        }
    }
    out.push_str("<d:response>");
    push_href(out, site, entry.path.as_ref(), entry.is_directory());
    if !found.is_empty() || missing.is_empty() {
        push_propstat(out, &found, StatusCode::OK);
    }
    if !missing.is_empty() {
        push_propstat(out, &missing, StatusCode::NOT_FOUND);
    }
    out.push_str("</d:response>");
    Ok(())
}

fn push_propstat(out: &mut String, elements: &str, status: StatusCode) {
    let reason = status.canonical_reason().unwrap_or_default();
    let _ = write!(
        out,
        "<d:propstat><d:prop>{elements}</d:prop><d:status>HTTP/1.1 {} {reason}</d:status></d:propstat>",
        status.as_u16()
    );
}

/// An element of any namespace around XML, or an empty one.
fn push_element(out: &mut String, name: &Name, inner: Option<&str>) {
    let Name { namespace, local } = name;
    let known = NAMESPACES.iter().find(|(_, known)| known == namespace);
    let (tag, declaration) = match known {
        Some((prefix, _)) => (format!("{prefix}:{local}"), String::new()),
        None if namespace.is_empty() => (local.clone(), " xmlns=\"\"".to_owned()),
        None => {
            let mut escaped = String::new();
            push_xml_text(&mut escaped, namespace);
            (format!("x1:{local}"), format!(" xmlns:x1=\"{escaped}\""))
        }
    };
    let _ = match inner {
        Some(inner) => write!(out, "<{tag}{declaration}>{inner}</{tag}>"),
        None => write!(out, "<{tag}{declaration}/>"),
    };
}

enum Value {
    /// `<d:name/>`
    Empty,
    /// Anything else, an empty text among it.
    Xml(String),
}

fn text(text: &str) -> Option<Value> {
    let mut out = String::new();
    push_xml_text(&mut out, text);
    Some(Value::Xml(out))
}

async fn value(site: &Site, entry: &Entry, name: &Name) -> Result<Option<Value>, OpsError> {
    let (directory, print) = (entry.is_directory(), &entry.look.print);
    let file_name = entry.path.as_ref().map(FilePath::name).unwrap_or_default();
    let used = async || Ok::<_, OpsError>(site.ops.bytes_below(&site.caller, entry.path.clone()).await?.to_string());
    let live = match (name.namespace.as_str(), name.local.as_str()) {
        (DAV, "getlastmodified") => text(&http_date(print.mtime_ns)),
        (DAV, "getcontentlength") if !directory => text(&print.size.to_string()),
        (DAV, "resourcetype") if directory => Some(Value::Xml("<d:collection/>".to_owned())),
        (DAV, "resourcetype") => Some(Value::Empty),
        (DAV, "getetag") => text(&format!("\"{}\"", entry.tag())),
        (DAV, "getcontenttype") if !directory => {
            let guess = mime_guess::from_path(String::from_utf8_lossy(file_name).as_ref()).first_or_octet_stream();
            text(guess.essence_str())
        }
        (DAV, "displayname") if dead(entry, name).is_none() => {
            let own = if entry.path.is_none() { site.caller.account.name.as_bytes() } else { file_name };
            text(&String::from_utf8_lossy(own))
        }
        (DAV, "creationdate") => text("1970-01-01T00:00:00+00:00"),
        (DAV, "quota-available-bytes") if directory => {
            let available = site.ops.available(&site.caller).await?;
            text(&available.map_or_else(|| "-3".to_owned(), |available| available.to_string()))
        }
        (DAV, "quota-used-bytes") if directory => text(&used().await?),
        (DAV, "supportedlock") => Some(Value::Xml(supported_locks())),
        (DAV, "lockdiscovery") => Some(Value::Xml(locks(&site.locks_on(entry.path.as_ref()).await))),
        (OWNCLOUD, "id") => text(&format!("{:08}{}", entry.file_id(), instance_id())),
        (OWNCLOUD, "fileid") => text(&entry.file_id().to_string()),
        (OWNCLOUD, "permissions") => text(if directory { "RGDNVCK" } else { "RGDNVW" }),
        (OWNCLOUD, "size") if directory => text(&used().await?),
        (OWNCLOUD, "size") => text(&print.size.to_string()),
        (OWNCLOUD, "checksums") => {
            let checksum = entry.checksum().map(|checksum| format!("<oc:checksum>{checksum}</oc:checksum>"));
            return Ok(checksum.map(Value::Xml));
        }
        (OWNCLOUD, "owner-id" | "owner-display-name") => text(&site.caller.account.name),
        (OWNCLOUD, "share-types") => Some(Value::Empty),
        (OWNCLOUD, "favorite") => text("0"),
        (OWNCLOUD, "downloadURL") if !directory => text(""),
        (OWNCLOUD, "data-fingerprint") => text(""),
        (NEXTCLOUD, "has-preview") => text("false"),
        (NEXTCLOUD, "mount-type") => text(""),
        (NEXTCLOUD, "creation_time") => text("0"),
        (NEXTCLOUD, "upload_time") if !directory => {
            entry.stored.as_ref().and_then(|stored| text(&stored.arrived_at.to_secs().to_string()))
        }
        _ => None,
    };
    Ok(live.or_else(|| dead(entry, name).map(|value| Value::Xml(value.to_owned()))))
}

fn dead<'a>(entry: &'a Entry, name: &Name) -> Option<&'a str> {
    let kept = name.to_text();
    entry.properties.iter().find(|property| property.name == kept).map(|property| property.value.as_str())
}

fn http_date(mtime_ns: i64) -> String {
    let time = Timestamp::from_second(mtime_ns.div_euclid(1_000_000_000)).unwrap_or_default();
    time.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

fn supported_locks() -> String {
    ["exclusive", "shared"]
        .map(|scope| {
            format!(
                "<d:lockentry><d:lockscope><d:{scope}/></d:lockscope><d:locktype><d:write/></d:locktype></d:lockentry>"
            )
        })
        .concat()
}

fn locks(locks: &[DavLock]) -> String {
    let mut out = String::new();
    for lock in locks {
        let scope = if lock.shared { "shared" } else { "exclusive" };
        let depth = if lock.deep { "infinity" } else { "0" };
        let timeout = lock.timeout.map_or("Infinite".to_owned(), |timeout| format!("Second-{}", timeout.as_secs()));
        let _ = write!(
            out,
            "<d:activelock><d:lockscope><d:{scope}/></d:lockscope><d:locktype><d:write/></d:locktype>\
             <d:depth>{depth}</d:depth>{}<d:timeout>{timeout}</d:timeout><d:locktoken><d:href>{}</d:href></d:locktoken>\
             <d:lockroot><d:href>{}</d:href></d:lockroot></d:activelock>",
            owner(lock),
            lock.token,
            lock.path.with_prefix().as_url_string()
        );
    }
    out
}

/// Who a lock's maker says they are: a text, or an address.
fn owner(lock: &DavLock) -> String {
    let Some(owner) = &lock.owner else { return String::new() };
    let mut inner = String::new();
    match owner.get_child("href").and_then(|href| href.get_text()) {
        Some(href) => {
            inner.push_str("<d:href>");
            push_xml_text(&mut inner, &href);
            inner.push_str("</d:href>");
        }
        None => push_xml_text(&mut inner, &owner.get_text().unwrap_or_default()),
    }
    format!("<d:owner>{inner}</d:owner>")
}

/// Properties of the server's own, which nobody sets.
fn is_protected(name: &Name) -> bool {
    match name.namespace.as_str() {
        DAV => name.local != "displayname" && name.local != "getcontentlanguage",
        OWNCLOUD => matches!(
            name.local.as_str(),
            "id" | "fileid"
                | "permissions"
                | "size"
                | "checksums"
                | "owner-id"
                | "owner-display-name"
                | "share-types"
                | "downloadURL"
                | "data-fingerprint"
        ),
        NEXTCLOUD => matches!(name.local.as_str(), "has-preview" | "mount-type" | "creation_time" | "upload_time"),
        _ => false,
    }
}

pub(super) async fn patch(site: &Site, path: Option<FilePath>, body: &[u8]) -> Result<Response, Refusal> {
    let wrong = || Refusal::bad_request("The request body is not a PROPPATCH");
    let root = xml::read(body).map_err(|_| wrong())?;
    if !root.name.is(DAV, "propertyupdate") {
        return Err(wrong());
    }
    let entry = site.ops.entry(&site.caller, path.clone()).await?;
    let mut changes: Vec<(Name, Option<String>)> = Vec::new();
    for action in root.children() {
        let set = action.name.is(DAV, "set");
        if !set && !action.name.is(DAV, "remove") {
            continue;
        }
        let properties = action.children().filter(|child| child.name.is(DAV, "prop")).flat_map(Element::children);
        changes.extend(properties.map(|property| (property.name.clone(), set.then(|| property.inner()))));
    }
    let mtime = |value: &Option<String>| value.as_deref().and_then(unix_time).zip(path.clone());
    let too_long = |value: &Option<String>| value.as_ref().is_some_and(|value| value.len() > VALUE_BYTES_MAX);
    let refused: Vec<StatusCode> = changes
        .iter()
        .map(|(name, value)| match (is_protected(name), too_long(value)) {
            _ if name.is(DAV, LAST_MODIFIED) && mtime(value).is_some() => StatusCode::OK,
            (true, _) => StatusCode::FORBIDDEN,
            (_, true) => StatusCode::INSUFFICIENT_STORAGE,
            (false, false) => StatusCode::OK,
        })
        .collect();
    let all_or_none = if refused.iter().all(|status| *status == StatusCode::OK) {
        let (times, dead): (Vec<_>, Vec<_>) = changes.iter().partition(|(name, _)| name.is(DAV, LAST_MODIFIED));
        if let Some((mtime, path)) = times.last().and_then(|(_, value)| mtime(value)) {
            site.ops.set_mtime(&site.caller, path, mtime).await?;
        }
        if !dead.is_empty() {
            let dead = dead.into_iter().map(|(name, value)| (name.to_text(), value.clone())).collect();
            site.ops.set_properties(&site.caller, path, dead).await?;
        }
        StatusCode::OK
    } else {
        StatusCode::FAILED_DEPENDENCY
    };
    let mut out = head();
    out.push_str("<d:response>");
    push_href(&mut out, site, entry.path.as_ref(), entry.is_directory());
    for status in
        [StatusCode::OK, StatusCode::FORBIDDEN, StatusCode::FAILED_DEPENDENCY, StatusCode::INSUFFICIENT_STORAGE]
    {
        let mut elements = String::new();
        for ((name, _), refused) in changes.iter().zip(&refused) {
            let own = if *refused == StatusCode::OK { all_or_none } else { *refused };
            if own == status {
                push_element(&mut elements, name, None);
            }
        }
        if !elements.is_empty() {
            push_propstat(&mut out, &elements, status);
        }
    }
    out.push_str("</d:response></d:multistatus>\n");
    Ok(multistatus(out.into()))
}
