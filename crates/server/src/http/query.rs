//! Query strings as bytes: a file name in a URL need not be UTF-8.

use percent_encoding::percent_decode;

/// The parameters of a query, in order, decoded.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(Vec<u8>, Vec<u8>)>);

impl Query {
    /// Reads what stands after the `?`.
    pub(crate) fn new(query: Option<&str>) -> Self {
        let pairs = query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty());
        Self(
            pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(k, v)| (decode(k), decode(v))).collect(),
        )
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter(move |(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice())
    }

    /// The only value of a parameter; an error if it is given twice.
    pub(crate) fn one(&self, name: &str) -> Result<Option<&[u8]>, Doubled> {
        let mut values = self.0.iter().filter(|(key, _)| key == name.as_bytes()).map(|(_, value)| value.as_slice());
        let first = values.next();
        if values.next().is_some() { Err(Doubled) } else { Ok(first) }
    }

    /// The last value of a parameter as text, as PHP takes it.
    pub(crate) fn last_text(&self, name: &str) -> Option<String> {
        self.all(name).last().map(|value| String::from_utf8_lossy(value).into_owned())
    }

    /// The names, in order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.0.iter().map(|(key, _)| key.as_slice())
    }
}

/// A parameter was given twice.
#[derive(Debug)]
pub(crate) struct Doubled;

fn decode(text: &str) -> Vec<u8> {
    percent_decode(text.replace('+', " ").as_bytes()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_bytes() {
        let query = Query::new(Some("filename=a%2Fb+c%FF&page=2&x&page=3"));
        assert_eq!(query.one("filename").unwrap(), Some(b"a/b c\xff".as_slice()));
        assert!(query.one("page").is_err());
        assert_eq!(query.last_text("page").as_deref(), Some("3"));
        assert_eq!(query.one("x").unwrap(), Some(b"".as_slice()));
        assert_eq!(query.one("none").unwrap(), None);
    }
}
