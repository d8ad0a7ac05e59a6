//! What an application asks for at `authorise` and `token`, read from a query, a form or JSON (sections 2.1, 3.1, 3.4).

use serde::de::{Deserialize, Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use sha2::{Digest, Sha256};

use super::Failure;
use crate::id::PairingId;
use crate::secret::Secret;
use crate::wire::sign;

/// The scopes that can be granted (2.4). Folders are added by who consents; GraphQL is not served.
pub const SCOPES: [&str; 2] = ["api.dataDelivery", "api.dataIngestion"];
/// The longest value of a parameter, in bytes; a token may be longer.
pub const VALUE_BYTES_MAX: usize = 4096;
/// The longest token, in bytes: it names every folder that was granted.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Every parameter that is read; others are ignored.
const NAMES: [&str; 19] = [
    "client_id",
    "client_secret",
    "scope",
    "customer",
    "redirect_uri",
    "state",
    "response_type",
    "response_mode",
    "code_challenge",
    "code_challenge_method",
    "grant_type",
    "code",
    "code_verifier",
    "refresh_token",
    "token",
    "token_type_hint",
    "name",
    "password",
    "csrf",
];

/// Named texts, each given at most once.
#[derive(Debug, Default, Clone)]
pub struct Parameters(Vec<(&'static str, Secret)>);

impl Parameters {
    /// Reads `name=value&...`, percent-encoded, as a query or a form carries it.
    pub fn from_form(text: &[u8]) -> Result<Self, Failure> {
        let mut parameters = Self::default();
        for (name, value) in url::form_urlencoded::parse(text) {
            parameters.add(&name, &value)?;
        }
        Ok(parameters)
    }

    /// Reads a JSON object. A known member must be text; what is no object has no parameters.
    pub fn from_json(text: &[u8]) -> Result<Self, Failure> {
        let members: Members = serde_json::from_slice(text).map_err(|_| Failure::MissingParameters)?;
        let mut parameters = Self::default();
        for (name, value) in members.0 {
            match value {
                Some(value) => parameters.add(&name, &value)?,
                None => {
                    if let Some(known) = known(&name) {
                        return Err(Failure::InvalidParameter(known));
                    }
                }
            }
        }
        Ok(parameters)
    }

    /// Adds one; giving it twice, or too long, is refused.
    pub fn add(&mut self, name: &str, value: &str) -> Result<(), Failure> {
        let Some(name) = known(name) else { return Ok(()) };
        let longest = if matches!(name, "refresh_token" | "token") { TOKEN_BYTES_MAX } else { VALUE_BYTES_MAX };
        if value.len() > longest || value.contains('\0') || self.0.iter().any(|(taken, _)| *taken == name) {
            return Err(Failure::InvalidParameter(name));
        }
        self.0.push((name, Secret::new(value)));
        Ok(())
    }

    /// A parameter that may be missing. An empty one counts as missing.
    pub fn get(&self, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|(one, _)| *one == name).map(|(_, value)| value.expose());
        found.filter(|value| !value.is_empty())
    }

    /// A parameter that must be there.
    pub fn need(&self, name: &str) -> Result<&str, Failure> {
        self.get(name).ok_or(Failure::MissingParameters)
    }
}

fn known(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

/// The members of a JSON object in order, also doubled ones; `None` for a value that is not text.
struct Members(Vec<(String, Option<String>)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;
        impl<'de> Visitor<'de> for Object {
            type Value = Members;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(name) = map.next_key::<String>()? {
                    if members.len() >= MEMBERS_MAX {
                        return Err(A::Error::custom("too many members"));
                    }
                    let value = if known(&name).is_some() {
                        map.next_value::<Value>()?.text()
                    } else {
                        map.next_value::<IgnoredAny>()?;
                        None
                    };
                    members.push((name, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Object)
    }
}

/// The most members of a JSON object that are looked at.
const MEMBERS_MAX: usize = 64;

/// A value of which only a text is wanted.
#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Value {
    Text(String),
    Other(IgnoredAny),
}

impl Value {
    fn text(self) -> Option<String> {
        match self {
            Self::Text(text) => Some(text),
            Self::Other(_) => None,
        }
    }
}

/// How the answer to a request for consent travels (2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// The browser posts a form to the redirect URL.
    Form,
    /// The browser is redirected, with the answer in the query.
    Query,
    /// The server posts a form to the redirect URL itself.
    Server,
}

impl Transport {
    /// The word for it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Form => "form",
            Self::Query => "query",
            Self::Server => "server",
        }
    }
}

impl std::str::FromStr for Transport {
    type Err = UnknownTransport;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::Form, Self::Query, Self::Server].into_iter().find(|one| one.as_str() == text).ok_or(UnknownTransport)
    }
}

/// A text is not a transport.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a transport is `form`, `query` or `server`")]
pub struct UnknownTransport;

/// A request for consent (2.1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authorise {
    /// Who asks.
    pub client_id: String,
    /// What for.
    pub scopes: Vec<String>,
    /// Which customer is asked, by its URL.
    pub customer: String,
    /// Where the answer goes.
    pub redirect_uri: String,
    /// Returned unchanged.
    pub state: String,
    /// PKCE challenge, S256 (RFC 7636).
    pub challenge: Option<String>,
    /// How the answer is to travel, if the request says so (`response_mode`, not of this protocol).
    pub transport: Option<Transport>,
}

impl Authorise {
    /// Reads what must be known before anything else is checked: who asks, and where the answer goes.
    pub fn from_parameters(parameters: &Parameters) -> Result<Self, Failure> {
        let mut scopes: Vec<String> = Vec::new();
        for scope in parameters.need("scope")?.split_ascii_whitespace() {
            if !scopes.iter().any(|one| one == scope) {
                scopes.push(scope.to_owned());
            }
        }
        Ok(Self {
            client_id: parameters.need("client_id")?.to_owned(),
            customer: parameters.need("customer")?.to_owned(),
            redirect_uri: parameters.need("redirect_uri")?.to_owned(),
            state: parameters.need("state")?.to_owned(),
            scopes,
            challenge: challenge(parameters)?,
            transport: match parameters.get("response_mode") {
                None => None,
                Some("form_post") => Some(Transport::Form),
                Some("query") => Some(Transport::Query),
                Some(_) => return Err(Failure::InvalidParameter("response_mode")),
            },
        })
    }

    /// Refuses a request without scopes or with one that cannot be granted.
    pub fn check_scopes(&self) -> Result<(), Failure> {
        let known = self.scopes.iter().all(|scope| SCOPES.contains(&scope.as_str()));
        if known && !self.scopes.is_empty() { Ok(()) } else { Err(Failure::InvalidParameter("scope")) }
    }
}

fn challenge(parameters: &Parameters) -> Result<Option<String>, Failure> {
    let base64url = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'));
    match (parameters.get("code_challenge"), parameters.get("code_challenge_method")) {
        (None, None) => Ok(None),
        // `plain` proves nothing to who has seen the request.
        (Some(challenge), Some("S256")) if challenge.len() == 43 && base64url(challenge) => {
            Ok(Some(challenge.to_owned()))
        }
        (Some(_), Some("S256")) => Err(Failure::InvalidParameter("code_challenge")),
        (None, Some(_)) => Err(Failure::MissingParameters),
        (Some(_), _) => Err(Failure::InvalidParameter("code_challenge_method")),
    }
}

/// Whether a verifier fits the challenge given when consent was asked for; without a challenge there is no verifier.
pub fn verifier_fits(challenge: Option<&str>, verifier: Option<&str>) -> bool {
    use base64::Engine as _;
    match (challenge, verifier) {
        (None, None) => true,
        (Some(challenge), Some(verifier)) if (43..=128).contains(&verifier.len()) => {
            let hashed = Sha256::digest(verifier.as_bytes());
            let expected = base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(hashed);
            sign::same(expected.as_bytes(), challenge.as_bytes())
        }
        _ => false,
    }
}

/// What `token` is asked for (3.1, 3.4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenGrant {
    /// A code is exchanged.
    Code {
        /// The code.
        code: Secret,
        /// The redirect URL that it came to.
        redirect_uri: String,
        /// PKCE verifier.
        verifier: Option<String>,
    },
    /// A refresh token is exchanged.
    Refresh {
        /// The refresh token.
        token: Secret,
    },
    /// The client asks for itself (RFC 6749, 4.4); not of this protocol.
    Client {
        /// Which customer's grant, where there are several.
        customer: Option<String>,
    },
}

/// A request at `token`, with who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRequest {
    /// Who asks.
    pub client_id: String,
    /// Its secret.
    pub client_secret: Secret,
    /// What for.
    pub grant: TokenGrant,
}

impl TokenRequest {
    /// Reads a request: what is missing is said before what is wrong. `client_credentials` is a grant type of the
    /// standard only.
    pub fn from_parameters(parameters: &Parameters, standard: bool) -> Result<Self, Failure> {
        let grant_type = parameters.need("grant_type")?;
        let client_id = parameters.need("client_id")?.to_owned();
        let client_secret = Secret::new(parameters.need("client_secret")?);
        let grant = match grant_type {
            "authorization_code" => TokenGrant::Code {
                code: Secret::new(parameters.need("code")?),
                redirect_uri: parameters.need("redirect_uri")?.to_owned(),
                verifier: parameters.get("code_verifier").map(str::to_owned),
            },
            "refresh_token" => TokenGrant::Refresh { token: Secret::new(parameters.need("refresh_token")?) },
            "client_credentials" if standard => {
                TokenGrant::Client { customer: parameters.get("customer").map(str::to_owned) }
            }
            _ => return Err(Failure::GrantType),
        };
        Ok(Self { client_id, client_secret, grant })
    }
}

/// A code as text: it names its request, and proves it with a secret part.
pub fn code(pairing: PairingId, proof: &Secret) -> Secret {
    Secret::new(format!("{}.{}", pairing.uuid().simple(), proof.expose()))
}

/// Reads a code.
pub fn read_code(code: &Secret) -> Option<(PairingId, Secret)> {
    let (id, proof) = code.expose().split_once('.')?;
    let id = Some(id).filter(|id| id.len() == 32).and_then(|id| uuid::Uuid::try_parse(id).ok())?;
    Some((PairingId::new(id), Secret::new(proof)))
}

/// Whether two customer URLs are of one customer: scheme, host and port in lower case, the path without a slash at
/// its end (GAP-30).
pub fn same_customer(a: &str, b: &str) -> bool {
    let read = |text: &str| {
        let url = url::Url::parse(text).ok()?;
        let path = url.path().trim_end_matches('/').to_owned();
        Some((url.scheme().to_owned(), url.host_str()?.to_owned(), url.port_or_known_default(), path))
    };
    matches!((read(a), read(b)), (Some(a), Some(b)) if a == b)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "client_id=c&scope=api.dataDelivery&customer=https%3A%2F%2Fx3.acme.example&\
                        redirect_uri=https%3A%2F%2Fapp.example.org%2Fcallback&state=%20s%2B";

    fn authorise(text: &str) -> Result<Authorise, Failure> {
        Authorise::from_parameters(&Parameters::from_form(text.as_bytes())?)
    }

    #[test]
    fn a_request_for_consent_is_read_whatever_stands_beside_it() {
        let asked = authorise(&format!("{GOOD}&response_type=code&more=1&more=2")).unwrap();
        assert_eq!((asked.client_id.as_str(), asked.state.as_str()), ("c", " s+"));
        assert_eq!(asked.redirect_uri, "https://app.example.org/callback");
        assert!(asked.check_scopes().is_ok());
    }

    #[test]
    fn each_parameter_of_a_request_for_consent_is_needed_once_and_short() {
        for name in ["client_id", "scope", "customer", "redirect_uri", "state"] {
            let without: Vec<&str> = GOOD.split('&').filter(|pair| !pair.starts_with(&format!("{name}="))).collect();
            assert_eq!(authorise(&without.join("&")), Err(Failure::MissingParameters), "{name}");
            let empty = format!("{}&{name}=", without.join("&"));
            assert_eq!(authorise(&empty), Err(Failure::MissingParameters), "{name}");
            assert_eq!(authorise(&format!("{GOOD}&{name}=x")), Err(Failure::InvalidParameter(name)));
            let long = format!("{}&{name}={}", without.join("&"), "x".repeat(1 << 20));
            assert_eq!(authorise(&long), Err(Failure::InvalidParameter(name)));
        }
    }

    #[test]
    fn a_scope_that_cannot_be_granted_is_refused() {
        for wrong in ["%20", "api.graphQL", "api.dataDelivery%20folder.SEED", "API.DATADELIVERY"] {
            let text = GOOD.replace("api.dataDelivery", wrong);
            let refused = authorise(&text).and_then(|asked| asked.check_scopes());
            assert_eq!(refused, Err(Failure::InvalidParameter("scope")), "{wrong}");
        }
    }

    #[test]
    fn only_a_hashed_challenge_counts() {
        // The example of RFC 7636, appendix B.
        let (challenge, verifier) =
            ("E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM", "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk");
        let with = |more: &str| authorise(&format!("{GOOD}&{more}")).map(|asked| asked.challenge);
        let both = format!("code_challenge={challenge}&code_challenge_method=S256");
        assert_eq!(with(&both), Ok(Some(challenge.to_owned())));
        assert!(with(&format!("code_challenge={challenge}")).is_err());
        assert!(with(&format!("code_challenge={challenge}&code_challenge_method=plain")).is_err());
        assert!(with("code_challenge=short&code_challenge_method=S256").is_err());
        assert!(with("code_challenge_method=S256").is_err());
        assert!(verifier_fits(Some(challenge), Some(verifier)) && verifier_fits(None, None));
        assert!(!verifier_fits(Some(challenge), None) && !verifier_fits(None, Some(verifier)));
        assert!(!verifier_fits(Some(challenge), Some(challenge)));
    }

    #[test]
    fn a_token_request_is_read_from_json_and_from_a_form() {
        let json =
            br#"{"grant_type":"refresh_token","refresh_token":"r","client_id":"c","client_secret":"s","x":{"y":1}}"#;
        let form = b"grant_type=refresh_token&refresh_token=r&client_id=c&client_secret=s";
        let read = |parameters: Parameters| TokenRequest::from_parameters(&parameters, false).unwrap();
        assert_eq!(read(Parameters::from_json(json).unwrap()), read(Parameters::from_form(form).unwrap()));
    }

    #[test]
    fn a_token_request_says_what_is_missing_before_what_is_wrong() {
        let check = |text: &str, expected: Failure| {
            let refused = Parameters::from_json(text.as_bytes())
                .and_then(|parameters| TokenRequest::from_parameters(&parameters, false));
            assert_eq!(refused, Err(expected), "{text}");
        };
        check("", Failure::MissingParameters);
        check("[]", Failure::MissingParameters);
        check(r#""code"="accesscode""#, Failure::MissingParameters);
        check(r#"{"grant_type":"password"}"#, Failure::MissingParameters);
        check(r#"{"grant_type":"password","client_id":"c","client_secret":"s"}"#, Failure::GrantType);
        check(r#"{"grant_type":"client_credentials","client_id":"c","client_secret":"s"}"#, Failure::GrantType);
        check(r#"{"grant_type":"refresh_token","client_id":"c","client_secret":"s"}"#, Failure::MissingParameters);
        check(r#"{"grant_type":"x","client_id":1}"#, Failure::InvalidParameter("client_id"));
        check(r#"{"client_id":"a","client_id":"b"}"#, Failure::InvalidParameter("client_id"));
        check(r#"{"client_id":{"a":["b"]}}"#, Failure::InvalidParameter("client_id"));
    }

    #[test]
    fn a_code_names_its_request() {
        let id = PairingId::new(uuid::Uuid::from_u128(7));
        let proof = Secret::new("proof.with.dots");
        assert_eq!(read_code(&code(id, &proof)), Some((id, proof)));
        for wrong in ["", ".", "x.y", "00000000-0000-0000-0000-000000000007.x"] {
            assert_eq!(read_code(&Secret::new(wrong)), None, "{wrong}");
        }
    }

    #[test]
    fn a_customer_is_found_by_its_url_however_it_is_written() {
        assert!(same_customer("https://X3.acme.example:443/", "https://x3.acme.example"));
        assert!(!same_customer("https://x3.acme.example/a", "https://x3.acme.example"));
        assert!(!same_customer("", ""));
    }
}
