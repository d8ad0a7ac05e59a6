//! What was typed: flags, environment and file, merged. Every key may be missing; unknown ones are refused.

use std::cell::RefCell;
use std::ops::Range;
use std::path::Path;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::{ConfigError, Mistake, Sources};

/// The mistakes found so far, each with its place.
#[derive(Default)]
pub(super) struct Mistakes(RefCell<Vec<(Place, Option<String>, String)>>);

/// Where something was typed. The order is the order of the report.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    Line(usize),
    Variable(String),
    Flag(String),
}

/// A value, and where it was typed under which key.
#[derive(Debug, Clone)]
pub(super) struct Given<T> {
    pub(super) value: T,
    pub(super) at: Place,
    pub(super) key: String,
}

pub(super) type Text = Option<Given<String>>;
pub(super) type Texts = Option<Given<Vec<Given<String>>>>;

/// A secret, or the file it stands in.
pub(super) struct TypedSecret {
    pub(super) text: Text,
    pub(super) file: Text,
}

pub(super) struct Typed {
    pub(super) listen: Text,
    pub(super) public_url: Text,
    pub(super) data_dir: Text,
    pub(super) database_url: Text,
    pub(super) admin_token: TypedSecret,
    pub(super) watch: TypedWatch,
    pub(super) delivery: TypedDelivery,
    pub(super) egress: TypedEgress,
    pub(super) sagex3: TypedSageX3,
    pub(super) accounts: Vec<TypedAccount>,
    pub(super) subscriptions: Vec<TypedSubscription>,
    pub(super) applications: Vec<TypedApplication>,
}

pub(super) struct TypedWatch {
    pub(super) settle: Text,
    pub(super) quiet: Text,
    pub(super) orphan_after: Text,
    pub(super) existing: Text,
    pub(super) rescan: Text,
    pub(super) mode: Text,
    pub(super) ignore: Texts,
}

pub(super) struct TypedDelivery {
    pub(super) timeout: Text,
    pub(super) max_in_flight: Option<Given<u64>>,
    pub(super) max_in_flight_per_endpoint: Option<Given<u64>>,
    pub(super) schedule: Texts,
    pub(super) ring: Texts,
}

pub(super) struct TypedEgress {
    pub(super) allow_networks: Texts,
    pub(super) allow_http: Option<Given<bool>>,
}

pub(super) struct TypedSageX3 {
    pub(super) region: Text,
    pub(super) callback: Text,
    pub(super) download: Text,
    pub(super) consume_once: Option<Given<bool>>,
    pub(super) errors: Text,
    pub(super) page_size: Option<Given<u64>>,
    pub(super) always_truncated: Option<Given<bool>>,
    pub(super) quota_per_day: Option<Given<u64>>,
    pub(super) access_token_life: Text,
    pub(super) refresh_token_life: Text,
}

pub(super) struct TypedAccount {
    pub(super) at: Place,
    pub(super) name: Text,
    pub(super) password: TypedSecret,
    pub(super) root: Text,
    pub(super) customer_url: Text,
    pub(super) customer_id: Text,
    pub(super) customer_code: Text,
    pub(super) quota: Text,
}

pub(super) struct TypedSubscription {
    pub(super) at: Place,
    pub(super) name: Text,
    pub(super) account: Text,
    pub(super) protocol: Text,
    pub(super) url: Text,
    pub(super) connection_id: Text,
    pub(super) min_interval: Text,
    pub(super) key: TypedSecret,
    /// The keys of the filter, in the table `filter` or beside the others.
    pub(super) filter: TypedFilter,
}

pub(super) struct TypedFilter {
    pub(super) folders: Texts,
    pub(super) include: Texts,
    pub(super) exclude: Texts,
    pub(super) kinds: Texts,
}

pub(super) struct TypedApplication {
    pub(super) at: Place,
    pub(super) name: Text,
    pub(super) client_id: Text,
    pub(super) client_secret: TypedSecret,
    pub(super) redirect_urls: Texts,
    pub(super) notification_url: Text,
    pub(super) signature_encoding: Text,
    pub(super) grants: Vec<TypedGrant>,
}

pub(super) struct TypedGrant {
    pub(super) at: Place,
    pub(super) account: Text,
    pub(super) folders: Texts,
    pub(super) scopes: Texts,
}

/// Reads all sources. What has a wrong shape is reported and left out.
pub(super) fn read(sources: &Sources<'_>, text: &str, mistakes: &Mistakes) -> Typed {
    let reader = Reader { sources, text, mistakes };
    let (table, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = reader.place(error.span().unwrap_or_default());
        mistakes.add(at, None, format!("this is not TOML: {}", error.message()));
    }
    let top = Section::new(&reader, "", Place::Line(1), Some(table.get_ref()), true);
    let typed = Typed {
        listen: top.text("listen"),
        public_url: top.text("public_url"),
        data_dir: top.text("data_dir"),
        database_url: top.text("database_url"),
        admin_token: top.secret("admin_token", "admin_token_file"),
        watch: watch(&top.section("watch")),
        delivery: delivery(&top.section("delivery")),
        egress: egress(&top.section("egress")),
        sagex3: sagex3(&top.section("sagex3")),
        accounts: top.sections("accounts").iter().map(account).collect(),
        subscriptions: top.sections("subscriptions").iter().map(subscription).collect(),
        applications: top.sections("applications").iter().map(application).collect(),
    };
    top.refuse_unknown();
    typed
}

fn watch(section: &Section<'_>) -> TypedWatch {
    let typed = TypedWatch {
        settle: section.text("settle"),
        quiet: section.text("quiet"),
        orphan_after: section.text("orphan_after"),
        existing: section.text("existing"),
        rescan: section.text("rescan"),
        mode: section.text("mode"),
        ignore: section.texts("ignore"),
    };
    section.refuse_unknown();
    typed
}

fn delivery(section: &Section<'_>) -> TypedDelivery {
    let typed = TypedDelivery {
        timeout: section.text("timeout"),
        max_in_flight: section.number("max_in_flight"),
        max_in_flight_per_endpoint: section.number("max_in_flight_per_endpoint"),
        schedule: section.texts("schedule"),
        ring: section.texts("ring"),
    };
    section.refuse_unknown();
    typed
}

fn egress(section: &Section<'_>) -> TypedEgress {
    let typed =
        TypedEgress { allow_networks: section.texts("allow_networks"), allow_http: section.boolean("allow_http") };
    section.refuse_unknown();
    typed
}

fn sagex3(section: &Section<'_>) -> TypedSageX3 {
    let typed = TypedSageX3 {
        region: section.text("region"),
        callback: section.text("callback"),
        download: section.text("download"),
        consume_once: section.boolean("consume_once"),
        errors: section.text("errors"),
        page_size: section.number("page_size"),
        always_truncated: section.boolean("always_truncated"),
        quota_per_day: section.number("quota_per_day"),
        access_token_life: section.text("access_token_life"),
        refresh_token_life: section.text("refresh_token_life"),
    };
    section.refuse_unknown();
    typed
}

fn account(section: &Section<'_>) -> TypedAccount {
    let typed = TypedAccount {
        at: section.at.clone(),
        name: section.text("name"),
        password: section.secret("password", "password_file"),
        root: section.text("root"),
        customer_url: section.text("customer_url"),
        customer_id: section.text("customer_id"),
        customer_code: section.text("customer_code"),
        quota: section.text("quota"),
    };
    section.refuse_unknown();
    typed
}

fn subscription(section: &Section<'_>) -> TypedSubscription {
    let inner = section.section("filter");
    let (beside, within) = (filter(section), filter(&inner));
    if inner.table.is_some() {
        inner.refuse_unknown();
        for given in beside.all().into_iter().flatten() {
            section.reader.mistakes.of(given, "stands beside the table `filter`; write it into that table");
        }
    }
    let typed = TypedSubscription {
        at: section.at.clone(),
        name: section.text("name"),
        account: section.text("account"),
        protocol: section.text("protocol"),
        url: section.text("url"),
        connection_id: section.text("connection_id"),
        min_interval: section.text("min_interval"),
        key: section.secret("key", "key_file"),
        filter: if inner.table.is_some() { within } else { beside },
    };
    section.refuse_unknown();
    typed
}

fn filter(section: &Section<'_>) -> TypedFilter {
    TypedFilter {
        folders: section.texts("folders"),
        include: section.texts("include"),
        exclude: section.texts("exclude"),
        kinds: section.texts("kinds"),
    }
}

impl TypedFilter {
    fn all(&self) -> [Option<&Given<Vec<Given<String>>>>; 4] {
        [self.folders.as_ref(), self.include.as_ref(), self.exclude.as_ref(), self.kinds.as_ref()]
    }
}

fn application(section: &Section<'_>) -> TypedApplication {
    let typed = TypedApplication {
        at: section.at.clone(),
        name: section.text("name"),
        client_id: section.text("client_id"),
        client_secret: section.secret("client_secret", "client_secret_file"),
        redirect_urls: section.texts("redirect_urls"),
        notification_url: section.text("notification_url"),
        signature_encoding: section.text("signature_encoding"),
        grants: section.sections("grants").iter().map(grant).collect(),
    };
    section.refuse_unknown();
    typed
}

fn grant(section: &Section<'_>) -> TypedGrant {
    let typed = TypedGrant {
        at: section.at.clone(),
        account: section.text("account"),
        folders: section.texts("folders"),
        scopes: section.texts("scopes"),
    };
    section.refuse_unknown();
    typed
}

struct Reader<'a> {
    sources: &'a Sources<'a>,
    text: &'a str,
    mistakes: &'a Mistakes,
}

impl Reader<'_> {
    fn place(&self, span: Range<usize>) -> Place {
        let before = self.text.as_bytes().iter().take(span.start);
        Place::Line(1 + before.filter(|byte| **byte == b'\n').count())
    }
}

/// One table of the file, with what flags and environment say about its keys.
struct Section<'a> {
    reader: &'a Reader<'a>,
    name: String,
    at: Place,
    table: Option<&'a DeTable<'a>>,
    /// Whether flags and environment speak about it: not about one table of several.
    single: bool,
    /// The keys that were asked for, which are all there are.
    known: RefCell<Vec<&'static str>>,
}

/// What one source says about a key.
enum Said<'a> {
    InFile(&'a DeValue<'a>),
    Elsewhere(String),
}

impl<'a> Section<'a> {
    fn new(reader: &'a Reader<'a>, name: &str, at: Place, table: Option<&'a DeTable<'a>>, single: bool) -> Self {
        Self { reader, name: name.to_owned(), at, table, single, known: RefCell::default() }
    }

    fn key(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The first source that says something about a key: flag, environment, file.
    fn said(&self, key: &'static str) -> Option<Given<Said<'a>>> {
        self.known.borrow_mut().push(key);
        let name = self.key(key);
        let sources = self.reader.sources;
        if self.single {
            if let Some((_, text)) = sources.flags.iter().find(|(flag, _)| *flag == name) {
                let at = Place::Flag(format!("--{}", name.replace(['_', '.'], "-")));
                return Some(Given { value: Said::Elsewhere(text.clone()), at, key: name });
            }
            let variable = format!("FILEBELL_{}", name.replace('.', "_").to_uppercase());
            if let Some(text) = (sources.env)(&variable) {
                return Some(Given { value: Said::Elsewhere(text), at: Place::Variable(variable), key: name });
            }
        }
        let value = self.table?.get(key)?;
        Some(Given { value: Said::InFile(value.get_ref()), at: self.reader.place(value.span()), key: name })
    }

    fn wrong_type<T>(&self, at: Place, key: String, expected: &str, found: &str) -> Option<T> {
        let article = if found.starts_with(['a', 'i', 'o']) { "an" } else { "a" };
        self.reader.mistakes.add(at, Some(key), format!("expected {expected}, found {article} {found}"));
        None
    }

    fn text(&self, key: &'static str) -> Text {
        let Given { value, at, key } = self.said(key)?;
        match value {
            Said::Elsewhere(value) => Some(Given { value, at, key }),
            Said::InFile(DeValue::String(text)) => Some(Given { value: text.to_string(), at, key }),
            // `existing` may be a time, which TOML writes without quotes.
            Said::InFile(DeValue::Datetime(time)) => Some(Given { value: time.to_string(), at, key }),
            Said::InFile(other) => self.wrong_type(at, key, "text in quotes", other.type_str()),
        }
    }

    fn number(&self, key: &'static str) -> Option<Given<u64>> {
        let Given { value, at, key } = self.said(key)?;
        let number = match &value {
            Said::Elsewhere(text) => text.parse().ok(),
            Said::InFile(DeValue::Integer(number)) => u64::from_str_radix(number.as_str(), number.radix()).ok(),
            Said::InFile(other) => return self.wrong_type(at, key, "a whole number", other.type_str()),
        };
        match number {
            Some(value) => Some(Given { value, at, key }),
            None => {
                self.reader.mistakes.add(at, Some(key), "expected a whole number that is not negative".to_owned());
                None
            }
        }
    }

    fn boolean(&self, key: &'static str) -> Option<Given<bool>> {
        let Given { value, at, key } = self.said(key)?;
        match value {
            Said::InFile(DeValue::Boolean(value)) => Some(Given { value: *value, at, key }),
            Said::InFile(other) => self.wrong_type(at, key, "true or false", other.type_str()),
            Said::Elsewhere(text) => match text.parse() {
                Ok(value) => Some(Given { value, at, key }),
                Err(_) => {
                    self.reader.mistakes.add(at, Some(key), format!("expected true or false, found `{text}`"));
                    None
                }
            },
        }
    }

    /// A list; outside the file its items are separated by commas.
    fn texts(&self, key: &'static str) -> Texts {
        let Given { value, at, key } = self.said(key)?;
        let given = |value: String, at: Place| Given { value, at, key: key.clone() };
        let items = match value {
            Said::Elsewhere(text) => {
                let items = text.split(',').map(str::trim).filter(|item| !item.is_empty());
                items.map(|item| given(item.to_owned(), at.clone())).collect()
            }
            Said::InFile(DeValue::Array(items)) => {
                let mut texts = Vec::new();
                for item in items.iter() {
                    let at = self.reader.place(item.span());
                    match item.get_ref() {
                        DeValue::String(text) => texts.push(given(text.to_string(), at)),
                        other => self.wrong_type(at, key.clone(), "a list of texts", other.type_str())?,
                    }
                }
                texts
            }
            Said::InFile(other) => return self.wrong_type(at, key, "a list of texts", other.type_str()),
        };
        Some(Given { value: items, at, key })
    }

    fn secret(&self, text: &'static str, file: &'static str) -> TypedSecret {
        TypedSecret { text: self.text(text), file: self.text(file) }
    }

    /// The table under a key; an empty one if there is none.
    fn section(&self, key: &'static str) -> Section<'a> {
        self.known.borrow_mut().push(key);
        let value = self.table.and_then(|table| table.get(key));
        let table = value.and_then(|value| match value.get_ref() {
            DeValue::Table(table) => Some(table),
            other => self.wrong_type(self.reader.place(value.span()), self.key(key), "a table", other.type_str()),
        });
        let at = value.map_or(self.at.clone(), |value| self.reader.place(value.span()));
        Section::new(self.reader, &self.key(key), at, table, self.single)
    }

    /// The tables under a key.
    fn sections(&self, key: &'static str) -> Vec<Section<'a>> {
        self.known.borrow_mut().push(key);
        let Some(value) = self.table.and_then(|table| table.get(key)) else { return Vec::new() };
        let name = self.key(key);
        let expected = format!("tables, each headed [[{name}]]");
        let table = |item: &'a Spanned<DeValue<'a>>| match item.get_ref() {
            DeValue::Table(table) => Some(table),
            other => self.wrong_type(self.reader.place(item.span()), name.clone(), &expected, other.type_str()),
        };
        let DeValue::Array(items) = value.get_ref() else {
            self.wrong_type::<()>(self.reader.place(value.span()), name, &expected, value.get_ref().type_str());
            return Vec::new();
        };
        let section = |item: &'a Spanned<DeValue<'a>>| {
            Some(Section::new(self.reader, &name, self.reader.place(item.span()), Some(table(item)?), false))
        };
        items.iter().filter_map(section).collect()
    }

    /// Reports every key of the file that nobody asked for, with the nearest one that is known.
    fn refuse_unknown(&self) {
        let known = self.known.borrow();
        for key in self.table.iter().flat_map(|table| table.keys()) {
            let name = key.get_ref().as_ref();
            if !known.contains(&name) {
                let what = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("unknown key; did you mean `{near}`?"),
                    None => format!("unknown key; known here are {}", known.join(", ")),
                };
                self.reader.mistakes.add(self.reader.place(key.span()), Some(self.key(name)), what);
            }
        }
    }
}

/// The known word that is most like `word`, if one is like it.
pub(super) fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    const ALIKE: f64 = 0.8;
    let scored = known.map(|one| (strsim::jaro_winkler(word, one), one)).filter(|(score, _)| *score >= ALIKE);
    scored.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, one)| one)
}

impl Mistakes {
    pub(super) fn add(&self, at: Place, key: Option<String>, what: String) {
        self.0.borrow_mut().push((at, key, what));
    }

    pub(super) fn of<T>(&self, given: &Given<T>, what: impl Into<String>) {
        self.add(given.at.clone(), Some(given.key.clone()), what.into());
    }

    /// All of them, if there are any.
    pub(super) fn none_or_all(self, file: Option<&Path>) -> Result<(), ConfigError> {
        let mut mistakes = self.0.into_inner();
        if mistakes.is_empty() {
            return Ok(());
        }
        mistakes.sort_by(|a, b| a.0.cmp(&b.0));
        let show = |(at, key, what)| match at {
            Place::Line(line) => {
                Mistake { place: format!("{}:{line}", file.unwrap_or(Path::new("")).display()), key, what }
            }
            Place::Variable(place) | Place::Flag(place) => Mistake { place, key: None, what },
        };
        Err(ConfigError { mistakes: mistakes.into_iter().map(show).collect() })
    }
}
