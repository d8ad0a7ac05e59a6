//! Where a notification goes.

use std::fmt;
use std::str::FromStr;

use url::Url;

/// The address of a receiver: http or https, with a host, without user name, password or fragment.
///
/// Whether that host may be reached is decided where the connection is made, not here.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointUrl(Url);

/// Why a text is not an endpoint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EndpointUrlError {
    /// It is no URL.
    #[error("`{0}` is not a URL such as https://app.example.org/hook")]
    NotAUrl(String),
    /// It has another scheme than http or https.
    #[error("a notification goes to http:// or https://, not to {0}://")]
    Scheme(String),
    /// It carries a user name or password.
    #[error("an endpoint URL carries no user name or password; the notification is signed instead")]
    Credentials,
    /// It carries a fragment, which is never sent.
    #[error("an endpoint URL has no part after `#`")]
    Fragment,
}

impl EndpointUrl {
    /// The URL.
    pub fn url(&self) -> &Url {
        &self.0
    }

    /// The host, as it stands in the URL.
    pub fn host(&self) -> &str {
        self.0.host_str().unwrap_or_default()
    }
}

impl FromStr for EndpointUrl {
    type Err = EndpointUrlError;

    fn from_str(text: &str) -> Result<Self, EndpointUrlError> {
        let not_a_url = || EndpointUrlError::NotAUrl(text.to_owned());
        let url = Url::parse(text).map_err(|_| not_a_url())?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(EndpointUrlError::Scheme(url.scheme().to_owned()));
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(EndpointUrlError::Credentials);
        }
        if url.fragment().is_some() {
            return Err(EndpointUrlError::Fragment);
        }
        if url.host_str().is_none_or(str::is_empty) {
            return Err(not_a_url());
        }
        Ok(Self(url))
    }
}

impl fmt::Display for EndpointUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_plain_web_addresses_are_endpoints() {
        assert!("https://app.example.org/hook?x=1".parse::<EndpointUrl>().is_ok());
        for wrong in ["", "app.example.org", "ftp://x/", "http://", "http://u:p@x/", "http://x/#a", "file:///etc"] {
            assert!(wrong.parse::<EndpointUrl>().is_err(), "{wrong}");
        }
    }
}
