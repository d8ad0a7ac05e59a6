//! From what was typed to what is true: the meaning of every key, and what one key asks of another.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use filebell_core::endpoint::EndpointUrl;
use filebell_core::filter::{Filter, FilterText, globs};
use filebell_core::retry::Schedule;
use filebell_core::ring::Rings;
use filebell_core::secret::Secret;
use filebell_core::subscription::SignatureEncoding;
use filebell_core::wire::sagex3::ErrorForm;
use filebell_core::wire::{nextcloud, standard::StandardKey};
use ipnet::IpNet;
use url::{Host, Url};

use super::typed::{
    Given, Mistakes, Place, Text, Texts, Typed, TypedAccount, TypedApplication, TypedDelivery, TypedEgress,
    TypedFilter, TypedGrant, TypedSageX3, TypedSecret, TypedSubscription, TypedWatch, nearest,
};
use super::{
    Config, DeliveryConfig, Existing, Listen, Mode, Policy, SCOPE_DEFAULT, WatchConfig, parse_duration, parse_size,
};
use crate::beneath::keep_apart;
use crate::ops::{
    AccountRequest, ApplicationRequest, Download, GrantRequest, NEXTCLOUD_INTERVAL, ProtocolRequest, SageX3Settings,
    SubscriptionRequest,
};
use crate::source::folder::Ignore;

const LISTEN: (&str, u16) = ("127.0.0.1", 8080);
const DATA_DIR: &str = "filebell-data";
const SETTLE: Duration = Duration::from_secs(2);
const ORPHAN_AFTER: Duration = Duration::from_secs(60);
const RESCAN: Duration = Duration::from_secs(10 * 60);
const TIMEOUT: Duration = Duration::from_secs(15);
const MAX_IN_FLIGHT: usize = 256;
const MAX_IN_FLIGHT_PER_ENDPOINT: usize = 16;
/// The longest page of a Sage X3 listing.
const PAGE_SIZE_MAX: u32 = 10_000;
/// 5 s, 30 s, 2 min, 10 min, 30 min, 1 h, 2 h, 4 h, 8 h, 12 h, 24 h.
const SCHEDULE_SECS: [u64; 11] = [5, 30, 120, 600, 1800, 3600, 7200, 14_400, 28_800, 43_200, 86_400];
/// 10 s, 30 s, 2 min, 10 min, 1 h.
const RING_SECS: [u64; 5] = [10, 30, 120, 600, 3600];

/// The step between. What cannot be used is reported, and something harmless put in its place: it is never seen.
pub(super) struct Check<'a> {
    /// What relative paths in the file are relative to.
    pub(super) base: &'a Path,
    pub(super) mistakes: &'a Mistakes,
    pub(super) look_at_roots: bool,
}

impl Check<'_> {
    pub(super) fn config(&self, typed: Typed) -> Config {
        if let Some(given) = &typed.database_url {
            self.mistakes
                .of(given, "PostgreSQL is not built in yet; take this key out to use the embedded store in data_dir");
        }
        let egress = self.egress(typed.egress);
        let data_dir = typed.data_dir.map_or_else(|| DATA_DIR.into(), |given| self.path(&given));
        let accounts = self.accounts(typed.accounts, &data_dir);
        let known = Known::new(accounts.iter().map(|account| account.name.as_str()));
        Config {
            listen: self.read(typed.listen, listen).unwrap_or(Listen { host: LISTEN.0.to_owned(), port: LISTEN.1 }),
            public_url: self.read(typed.public_url, public_url),
            data_dir,
            admin_token: self.secret(typed.admin_token).map(|given| given.value),
            watch: self.watch(typed.watch),
            delivery: self.delivery(typed.delivery),
            sagex3: self.sagex3(typed.sagex3),
            subscriptions: self.subscriptions(typed.subscriptions, &known, &egress),
            applications: self.applications(typed.applications, &known, &egress),
            accounts,
            egress,
        }
    }

    fn watch(&self, typed: TypedWatch) -> WatchConfig {
        if let Some(ignore) = &typed.ignore {
            for given in &ignore.value {
                if let Err(error) = globs(std::slice::from_ref(&given.value)) {
                    self.mistakes.of(given, error.to_string());
                }
            }
        }
        let mode = |text: &str| match text {
            "auto" => Ok(Mode::Auto),
            "inotify" => Ok(Mode::Inotify),
            "poll" => Ok(Mode::Poll),
            other => Err(one_of(other, &["auto", "inotify", "poll"])),
        };
        WatchConfig {
            settle: self.read(typed.settle, longer_than_zero).unwrap_or(SETTLE),
            quiet: self.read(typed.quiet, parse_duration).unwrap_or_default(),
            orphan_after: self.read(typed.orphan_after, parse_duration).unwrap_or(ORPHAN_AFTER),
            existing: self.read(typed.existing, existing).unwrap_or(Existing::None),
            rescan: self.read(typed.rescan, longer_than_zero).unwrap_or(RESCAN),
            mode: self.read(typed.mode, mode).unwrap_or(Mode::Auto),
            ignore: typed
                .ignore
                .map_or_else(|| Ignore::DEFAULT.map(str::to_owned).to_vec(), |given| values(Some(given))),
        }
    }

    fn delivery(&self, typed: TypedDelivery) -> DeliveryConfig {
        let count = |given: &Option<Given<u64>>, default| match given {
            None => default,
            Some(given) => {
                if given.value == 0 {
                    self.mistakes.of(given, "with none in flight nothing would ever be sent; write at least 1");
                }
                usize::try_from(given.value).unwrap_or(usize::MAX)
            }
        };
        let max_in_flight = count(&typed.max_in_flight, MAX_IN_FLIGHT);
        let per_endpoint = count(&typed.max_in_flight_per_endpoint, MAX_IN_FLIGHT_PER_ENDPOINT.min(max_in_flight));
        if let Some(given) = typed.max_in_flight_per_endpoint.filter(|_| per_endpoint > max_in_flight) {
            self.mistakes.of(&given, format!("is more than max_in_flight, which is {max_in_flight}"));
        }
        let schedule = self.gaps(typed.schedule, &SCHEDULE_SECS);
        let rings = self.gaps(typed.ring, &RING_SECS);
        DeliveryConfig {
            timeout: self.read(typed.timeout, longer_than_zero).unwrap_or(TIMEOUT),
            max_in_flight,
            max_in_flight_per_endpoint: per_endpoint,
            schedule: Schedule::new(schedule),
            rings: Rings::new(rings),
        }
    }

    fn gaps(&self, typed: Texts, default_secs: &[u64]) -> Vec<Duration> {
        match typed {
            Some(given) => given.value.into_iter().filter_map(|gap| self.read(Some(gap), longer_than_zero)).collect(),
            None => default_secs.iter().copied().map(Duration::from_secs).collect(),
        }
    }

    fn egress(&self, typed: TypedEgress) -> Policy {
        let networks = typed.allow_networks.into_iter().flat_map(|given| given.value);
        Policy {
            allow_networks: networks.filter_map(|given| self.read(Some(given), network)).collect(),
            allow_http: typed.allow_http.is_some_and(|given| given.value),
        }
    }

    fn sagex3(&self, typed: TypedSageX3) -> SageX3Settings {
        let default = SageX3Settings::default();
        let callback = |text: &str| text.parse().map_err(|_| one_of(text, &["form", "query", "server"]));
        let download = |text: &str| match text {
            "redirect" => Ok(Download::Redirect),
            "direct" => Ok(Download::Direct),
            other => Err(one_of(other, &["redirect", "direct"])),
        };
        let errors = |text: &str| match text {
            "documented" => Ok(ErrorForm::Documented),
            "nested" => Ok(ErrorForm::Nested),
            "flat" => Ok(ErrorForm::Flat),
            other => Err(one_of(other, &["documented", "nested", "flat"])),
        };
        let page_size = typed.page_size.map(|given| {
            let size = u32::try_from(given.value).ok().filter(|size| (1..=PAGE_SIZE_MAX).contains(size));
            size.unwrap_or_else(|| {
                self.mistakes.of(&given, format!("a page has 1 to {PAGE_SIZE_MAX} files"));
                default.page_size
            })
        });
        let access_for = self.read(typed.access_token_life, a_second_at_least).unwrap_or(default.access_for);
        let refresh_at = typed.refresh_token_life.clone();
        let refresh_for = self.read(typed.refresh_token_life, a_second_at_least).unwrap_or(default.refresh_for);
        if let Some(given) = refresh_at.filter(|_| refresh_for < access_for) {
            self.mistakes.of(&given, "is shorter than access_token_life: nobody could ever renew");
        }
        SageX3Settings {
            region: typed.region.map_or(default.region, |given| given.value),
            callback: self.read(typed.callback, callback).unwrap_or(default.callback),
            download: self.read(typed.download, download).unwrap_or(default.download),
            consume_once: typed.consume_once.map_or(default.consume_once, |given| given.value),
            errors: self.read(typed.errors, errors).unwrap_or(default.errors),
            page_size: page_size.unwrap_or(default.page_size),
            always_truncated: typed.always_truncated.map_or(default.always_truncated, |given| given.value),
            quota_per_day: typed.quota_per_day.map(|given| given.value).filter(|quota| *quota > 0),
            access_for,
            refresh_for,
            upload_bytes_max: default.upload_bytes_max,
        }
    }

    fn accounts(&self, typed: Vec<TypedAccount>, data_dir: &Path) -> Vec<AccountRequest> {
        let mut names = Unique::new(self.mistakes);
        let mut roots: Vec<(PathBuf, String)> = Vec::new();
        let mut accounts = Vec::new();
        for account in typed {
            let name = self.name(&account.at, "accounts", account.name, &mut names);
            let password = self.secret(account.password).map(|given| given.value);
            let root = account.root.map(|given| {
                let root = self.path(&given);
                if self.look_at_roots {
                    self.look_at_root(&given, &root, &name, &mut roots);
                    if let Err(error) = keep_apart(&root, data_dir) {
                        self.mistakes.of(&given, format!("{} {error}", root.display()));
                    }
                }
                root
            });
            accounts.push(AccountRequest {
                name,
                password,
                root,
                customer_url: text(account.customer_url),
                customer_id: text(account.customer_id),
                customer_code: text(account.customer_code),
                quota_bytes: self.read(account.quota, parse_size),
                managed: true,
            });
        }
        accounts
    }

    fn look_at_root(&self, given: &Given<String>, root: &Path, name: &str, roots: &mut Vec<(PathBuf, String)>) {
        let shown = root.display();
        let real = match std::fs::canonicalize(root) {
            Ok(real) if real.is_dir() => real,
            Ok(_) => return self.mistakes.of(given, format!("{shown} is not a directory")),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return self.mistakes.of(given, format!("{shown} does not exist; make it first (mkdir -p)"));
            }
            Err(error) => return self.mistakes.of(given, format!("{shown} cannot be opened: {error}")),
        };
        if let Some((taken, other)) =
            roots.iter().find(|(taken, _)| real.starts_with(taken) || taken.starts_with(&real))
        {
            let taken = taken.display();
            self.mistakes.of(
                given,
                format!(
                    "{shown} overlaps {taken}, the root of account `{other}`; give each account a directory of its own"
                ),
            );
        }
        roots.push((real, name.to_owned()));
    }

    fn subscriptions(&self, typed: Vec<TypedSubscription>, known: &Known, egress: &Policy) -> Vec<SubscriptionRequest> {
        let mut names = Unique::new(self.mistakes);
        typed.into_iter().filter_map(|one| self.subscription(one, known, egress, &mut names)).collect()
    }

    fn subscription(
        &self,
        typed: TypedSubscription,
        known: &Known,
        egress: &Policy,
        names: &mut Unique<'_>,
    ) -> Option<SubscriptionRequest> {
        let name = self.name(&typed.at, "subscriptions", typed.name, names);
        let account = self.account_named(&typed.at, "subscriptions", typed.account, known);
        let url = self.needed(&typed.at, "subscriptions.url", typed.url);
        let url = url.map(|given| self.endpoint(given, egress)).unwrap_or_default();
        let filter = self.filter(typed.filter);
        let min_interval = typed.min_interval.clone().and_then(|given| self.read(Some(given), parse_duration));
        let key = self.secret(typed.key);
        let protocol = self.needed(&typed.at, "subscriptions.protocol", typed.protocol)?;
        let (protocol, min_interval, hint) = match protocol.value.as_str() {
            "nextcloud" => {
                let connection_id = text(self.needed(&typed.at, "subscriptions.connection_id", typed.connection_id));
                let min_interval = min_interval.unwrap_or(NEXTCLOUD_INTERVAL);
                if let Some(given) = typed
                    .min_interval
                    .filter(|_| min_interval < Duration::from_secs(1) || min_interval.subsec_nanos() != 0)
                {
                    self.mistakes.of(&given, "the nextcloud protocol counts in whole seconds, at least \"1s\"");
                }
                (ProtocolRequest::Nextcloud { connection_id }, min_interval, NEXTCLOUD_KEY_HINT)
            }
            "standard" => {
                if let Some(given) = typed.connection_id {
                    self.mistakes.of(&given, "only the nextcloud protocol has a connection id; take it out");
                }
                (ProtocolRequest::Standard, min_interval.unwrap_or_default(), STANDARD_KEY_HINT)
            }
            "sagex3" => {
                let what = "sagex3 is told by grants: declare [[applications]] with a notification_url, and \
                            [[applications.grants]] for the account";
                self.mistakes.of(&protocol, what);
                return None;
            }
            other => {
                self.mistakes.of(&protocol, one_of(other, &["nextcloud", "standard"]));
                return None;
            }
        };
        match &key {
            Some(given) => self.key(given, &protocol),
            None => self.missing(&typed.at, "subscriptions.key", &format!("missing (or key_file); {hint}")),
        }
        let key = key.map(|given| given.value);
        Some(SubscriptionRequest { name, account, protocol, url, key, min_interval, filter, managed: true })
    }

    fn key(&self, given: &Given<Secret>, protocol: &ProtocolRequest) {
        let wrong = match protocol {
            ProtocolRequest::Nextcloud { .. } => {
                nextcloud::common_key(given.value.expose()).err().map(|error| format!("{error}; {NEXTCLOUD_KEY_HINT}"))
            }
            ProtocolRequest::Standard => {
                StandardKey::parse(&given.value).err().map(|error| format!("{error}; {STANDARD_KEY_HINT}"))
            }
        };
        if let Some(what) = wrong {
            self.mistakes.of(given, what);
        }
    }

    fn filter(&self, typed: TypedFilter) -> FilterText {
        let at = [&typed.folders, &typed.include, &typed.exclude, &typed.kinds];
        let at = at.into_iter().flatten().next().map(|given| (given.at.clone(), given.key.clone()));
        let default = FilterText::default();
        let filter = FilterText {
            folders: values(typed.folders),
            include: values(typed.include),
            exclude: values(typed.exclude),
            kinds: typed.kinds.map_or(default.kinds, |given| values(Some(given))),
        };
        if let (Err(error), Some((at, key))) = (Filter::new(filter.clone()), at) {
            self.mistakes.add(at, Some(key), error.to_string());
        }
        filter
    }

    fn applications(
        &self,
        typed: Vec<TypedApplication>,
        known: &Known,
        egress: &Policy,
    ) -> Vec<(ApplicationRequest, Vec<GrantRequest>)> {
        let (mut names, mut client_ids) = (Unique::new(self.mistakes), Unique::new(self.mistakes));
        let mut applications = Vec::new();
        for application in typed {
            let name = self.name(&application.at, "applications", application.name, &mut names);
            if let Some(given) = &application.client_id {
                client_ids.take(given);
            }
            let redirects = application.redirect_urls.into_iter().flat_map(|given| given.value);
            let redirect_urls =
                redirects.filter_map(|given| self.read(Some(given), endpoint)).map(|url| url.to_string());
            let redirect_urls = redirect_urls.collect();
            let notification_url = application.notification_url.map(|given| self.endpoint(given, egress));
            let encoding = self.read(application.signature_encoding, |text| {
                text.parse::<SignatureEncoding>().map_err(|_| one_of(text, &["hex", "base64"]))
            });
            let client_secret = self.secret(application.client_secret).map(|given| given.value);
            let grants = self.grants(&name, application.grants, known);
            let request = ApplicationRequest {
                name,
                client_id: application.client_id.map(|given| given.value),
                client_secret,
                redirect_urls,
                notification_url,
                signature_encoding: encoding.unwrap_or(SignatureEncoding::Hex),
                managed: true,
            };
            applications.push((request, grants));
        }
        applications
    }

    fn grants(&self, application: &str, typed: Vec<TypedGrant>, known: &Known) -> Vec<GrantRequest> {
        let mut accounts = Unique::new(self.mistakes);
        let mut grants = Vec::new();
        for grant in typed {
            if let Some(given) = &grant.account {
                accounts.take(given);
            }
            let account = self.account_named(&grant.at, "applications.grants", grant.account, known);
            let folders = match grant.folders {
                Some(given) if !given.value.is_empty() => values(Some(given)),
                _ => {
                    let what = "missing; name the top-level directories it may see, such as [\"SEED\"]";
                    self.missing(&grant.at, "applications.grants.folders", what);
                    Vec::new()
                }
            };
            let scopes = grant.scopes.map_or_else(|| vec![SCOPE_DEFAULT.to_owned()], |given| values(Some(given)));
            let (application, folder_filter) = (application.to_owned(), folders.clone());
            if let Err(error) = Filter::new(FilterText { folders: folder_filter, ..FilterText::default() }) {
                self.mistakes.add(grant.at, Some("applications.grants.folders".to_owned()), error.to_string());
            }
            grants.push(GrantRequest { application, account, folders, scopes });
        }
        grants
    }

    /// The name of an object: there, usable, and not taken.
    fn name(&self, at: &Place, section: &str, given: Text, names: &mut Unique<'_>) -> String {
        let Some(given) = self.needed(at, &format!("{section}.name"), given) else { return String::new() };
        if let Err(error) = crate::ops::check_name(&given.value) {
            self.mistakes.of(&given, error.to_string());
        }
        names.take(&given);
        given.value
    }

    fn account_named(&self, at: &Place, section: &str, given: Text, known: &Known) -> String {
        let Some(given) = self.needed(at, &format!("{section}.account"), given) else { return String::new() };
        if !known.0.contains(&given.value) {
            let what = match nearest(&given.value, known.0.iter().map(String::as_str)) {
                Some(near) => format!("no account `{}` is declared here; did you mean `{near}`?", given.value),
                None => format!("no account `{0}` is declared here; add [[accounts]] with name = \"{0}\"", given.value),
            };
            self.mistakes.of(&given, what);
        }
        given.value
    }

    /// A URL that is posted to, and whether it could ever be.
    fn endpoint(&self, given: Given<String>, egress: &Policy) -> String {
        match endpoint(&given.value) {
            Err(error) => self.mistakes.of(&given, error.to_string()),
            Ok(url) if url.url().scheme() == "http" && !egress.allow_http && !may_be_allowed(url.url(), egress) => {
                let what = "http:// is sent only to a network in egress.allow_networks, or with \
                            egress.allow_http = true; otherwise write https://";
                self.mistakes.of(&given, what);
            }
            Ok(_) => (),
        }
        given.value
    }

    fn secret(&self, typed: TypedSecret) -> Option<Given<Secret>> {
        let (text, file) = match (typed.text, typed.file) {
            (Some(text), Some(file)) if rank(&text.at) == rank(&file.at) => {
                self.mistakes.of(&file, format!("stands beside {}; keep one of the two", text.key));
                return None;
            }
            (Some(text), Some(file)) if rank(&text.at) < rank(&file.at) => (None, Some(file)),
            (Some(text), _) => (Some(text), None),
            (None, file) => (None, file),
        };
        let given = text.or_else(|| self.contents(file?))?;
        if given.value.is_empty() {
            self.mistakes.of(&given, "is empty");
            return None;
        }
        Some(Given { value: Secret::new(given.value), at: given.at, key: given.key })
    }

    fn contents(&self, given: Given<String>) -> Option<Given<String>> {
        let path = self.path(&given);
        match std::fs::read_to_string(&path) {
            Ok(text) => Some(Given { value: text.trim_end_matches(['\r', '\n']).to_owned(), ..given }),
            Err(error) => {
                self.mistakes.of(&given, format!("{} cannot be read: {error}", path.display()));
                None
            }
        }
    }

    /// A path in the file is relative to the file; elsewhere, to the working directory.
    fn path(&self, given: &Given<String>) -> PathBuf {
        match given.at {
            Place::Line(_) => self.base.join(&given.value),
            Place::Variable(_) | Place::Flag(_) => PathBuf::from(&given.value),
        }
    }

    fn read<T, E: ToString>(&self, given: Text, parse: impl Fn(&str) -> Result<T, E>) -> Option<T> {
        let given = given?;
        match parse(&given.value) {
            Ok(value) => Some(value),
            Err(error) => {
                self.mistakes.of(&given, error.to_string());
                None
            }
        }
    }

    fn needed(&self, at: &Place, key: &str, given: Text) -> Text {
        if given.is_none() {
            self.missing(at, key, "missing");
        }
        given
    }

    fn missing(&self, at: &Place, key: &str, what: &str) {
        self.mistakes.add(at.clone(), Some(key.to_owned()), what.to_owned());
    }
}

const NEXTCLOUD_KEY_HINT: &str = "make one with: openssl rand -hex 16";
const STANDARD_KEY_HINT: &str = "make one with: echo whsec_$(openssl rand -base64 32)";

/// The names of the accounts declared.
struct Known(Vec<String>);

impl Known {
    fn new<'a>(names: impl Iterator<Item = &'a str>) -> Self {
        Self(names.filter(|name| !name.is_empty()).map(str::to_owned).collect())
    }
}

/// Names that may be taken once.
struct Unique<'a> {
    mistakes: &'a Mistakes,
    taken: HashMap<String, Place>,
}

impl<'a> Unique<'a> {
    fn new(mistakes: &'a Mistakes) -> Self {
        Self { mistakes, taken: HashMap::new() }
    }

    fn take(&mut self, given: &Given<String>) {
        if let Some(Place::Line(line)) = self.taken.get(&given.value) {
            self.mistakes.of(given, format!("`{}` is there already, in line {line}", given.value));
        } else {
            self.taken.insert(given.value.clone(), given.at.clone());
        }
    }
}

fn rank(place: &Place) -> u8 {
    match place {
        Place::Line(_) => 0,
        Place::Variable(_) => 1,
        Place::Flag(_) => 2,
    }
}

fn text(given: Text) -> String {
    given.map(|given| given.value).unwrap_or_default()
}

fn values(given: Texts) -> Vec<String> {
    given.into_iter().flat_map(|given| given.value).map(|item| item.value).collect()
}

fn one_of(found: &str, words: &[&str]) -> String {
    match nearest(found, words.iter().copied()) {
        Some(near) => format!("`{found}` is not one of {}; did you mean `{near}`?", words.join(", ")),
        None => format!("`{found}` is not one of {}", words.join(", ")),
    }
}

fn longer_than_zero(text: &str) -> Result<Duration, String> {
    match parse_duration(text) {
        Ok(Duration::ZERO) => Err("must be longer than zero".to_owned()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(error.to_string()),
    }
}

/// Tokens count in whole seconds.
fn a_second_at_least(text: &str) -> Result<Duration, String> {
    match longer_than_zero(text)? {
        life if life < Duration::from_secs(1) => Err("must be at least a second".to_owned()),
        life => Ok(life),
    }
}

fn existing(text: &str) -> Result<Existing, String> {
    match text {
        "none" => Ok(Existing::None),
        "all" => Ok(Existing::All),
        time => time
            .parse()
            .map(Existing::Since)
            .map_err(|_| format!("`{time}` is neither \"none\" nor \"all\" nor a time such as 2026-11-22T17:00:00Z")),
    }
}

fn listen(text: &str) -> Result<Listen, String> {
    let wrong = || format!("`{text}` is not an address to listen on, such as 127.0.0.1:8080, [::1]:8080 or 0.0.0.0:0");
    let (host, port) = text.rsplit_once(':').ok_or_else(wrong)?;
    let port = port.parse().map_err(|_| wrong())?;
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let good = match bare {
        Some(address) => address.parse::<std::net::Ipv6Addr>().is_ok(),
        None => Host::parse(host).is_ok(),
    };
    if good { Ok(Listen { host: bare.unwrap_or(host).to_owned(), port }) } else { Err(wrong()) }
}

fn public_url(text: &str) -> Result<Url, String> {
    let url = endpoint(text).map_err(|_| format!("`{text}` is not a base URL such as https://files.example.org"))?;
    match url.url().query() {
        None => Ok(url.url().clone()),
        Some(_) => Err("a base URL has no part after `?`".to_owned()),
    }
}

fn endpoint(text: &str) -> Result<EndpointUrl, filebell_core::endpoint::EndpointUrlError> {
    text.parse()
}

fn network(text: &str) -> Result<IpNet, String> {
    let network = text.parse::<IpNet>().or_else(|_| text.parse::<std::net::IpAddr>().map(IpNet::from));
    network
        .map(|network| network.trunc())
        .map_err(|_| format!("`{text}` is not a network such as 127.0.0.0/8, 10.1.2.3 or fd00::/8"))
}

/// Whether a host could lie in an allowed network: an address does or does not, a name may.
fn may_be_allowed(url: &Url, egress: &Policy) -> bool {
    let within = |address: std::net::IpAddr| egress.allow_networks.iter().any(|network| network.contains(&address));
    match url.host() {
        Some(Host::Ipv4(address)) => within(address.into()),
        Some(Host::Ipv6(address)) => within(address.into()),
        Some(Host::Domain(_)) => !egress.allow_networks.is_empty(),
        None => false,
    }
}
