//! The names in a URL's path as text, whatever bytes they are: what is no name of ours is simply not found.

use axum::extract::{FromRequestParts, MatchedPath};
use axum::http::request::Parts;
use percent_encoding::percent_decode_str;

use super::problem::Problem;

/// The names that stand where the route has its parameters, in order; U+FFFD stands for what is not UTF-8.
///
/// Axum's own refuses such a path before a handler could, in words that are no protocol's.
pub(crate) struct PathNames<const N: usize>(pub(crate) [String; N]);

impl<S: Send + Sync, const N: usize> FromRequestParts<S> for PathNames<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let route = parts.extensions.get::<MatchedPath>().ok_or_else(Problem::internal)?;
        let names = names(route.as_str(), parts.uri.path()).try_into().map_err(|_| Problem::internal())?;
        Ok(Self(names))
    }
}

fn names(route: &str, path: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = path;
    for part in route.split('/') {
        let (name, behind) = rest.split_once('/').unwrap_or((rest, ""));
        if part.starts_with("{*") {
            names.push(text(rest));
        } else if part.starts_with('{') {
            names.push(text(name));
        }
        rest = behind;
    }
    names
}

fn text(name: &str) -> String {
    percent_decode_str(name).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::names;

    #[test]
    fn names_are_read_whatever_they_are() {
        assert_eq!(names("/a/{b}/c/{d}", "/a/x%2Fy/c/%E3%81%82"), ["x/y", "あ"]);
        assert_eq!(names("/a/{b}/", "/a/%ff/"), ["\u{fffd}"]);
        assert_eq!(names("/a/{*b}", "/a/x/y%2Fz"), ["x/y/z"]);
        assert_eq!(names("/a", "/a"), [""; 0]);
    }
}
