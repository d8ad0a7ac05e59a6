//! WebDAV, as far as the pull side needs it: GET and HEAD of a file.

use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use filebell_core::path::FilePath;
use percent_encoding::percent_decode_str;

use super::super::auth::{self, Given};
use super::super::file_body;
use super::super::problem::log_failure;
use crate::ops::{AccountCaller, Ops, OpsError};

/// `/remote.php/webdav/PATH`: the caller's own tree.
pub(super) async fn own(State(ops): State<Ops>, request: Request) -> Response {
    answer(&ops, request.into_parts().0, |path, _| path.strip_prefix("/remote.php/webdav")).await
}

/// `/remote.php/dav/files/ACCOUNT/PATH`: the same tree under its account's name.
pub(super) async fn of_account(State(ops): State<Ops>, request: Request) -> Response {
    answer(&ops, request.into_parts().0, |path, caller| {
        let below = path.strip_prefix("/remote.php/dav/files/")?;
        let (account, _) = below.split_once('/')?;
        let own = percent_decode_str(account).eq(caller.account.name.bytes());
        below.get(account.len()..).filter(|_| own)
    })
    .await
}

/// Answers with the file that `below` finds in the URL's path: the part after the tree's root, still encoded.
async fn answer(
    ops: &Ops,
    request: Parts,
    below: impl for<'a> Fn(&'a str, &AccountCaller) -> Option<&'a str>,
) -> Response {
    let caller = match caller(ops, &request).await {
        Ok(caller) => caller,
        Err(response) => return response,
    };
    if !matches!(request.method, Method::GET | Method::HEAD) {
        let allow = [(header::ALLOW, "GET, HEAD")];
        return (StatusCode::METHOD_NOT_ALLOWED, allow).into_response();
    }
    let missing = || error(StatusCode::NOT_FOUND, "NotFound", "File could not be located");
    let Some(encoded) = below(request.uri.path(), &caller) else { return missing() };
    let bytes: Vec<u8> = percent_decode_str(encoded).collect();
    let Ok(path) = FilePath::from_bytes(&bytes) else { return missing() };
    let answered = match ops.open_own_file(&caller, path).await {
        Ok(open) => file_body::answer(open, &request.method, &request.headers).await,
        Err(error) => Err(error),
    };
    match answered {
        Ok(response) => response,
        Err(OpsError::NotFound(_)) => missing(),
        Err(failure) => {
            log_failure(&failure);
            error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "The file cannot be read now")
        }
    }
}

async fn caller(ops: &Ops, request: &Parts) -> Result<AccountCaller, Response> {
    let result = match auth::given(&request.headers) {
        Given::Password(basic) => auth::login(ops, &basic, &request.extensions).await,
        Given::Nothing | Given::Token(_) | Given::Unreadable => Err(OpsError::Credentials),
    };
    result.map_err(|failure| match failure {
        OpsError::Credentials => {
            let text = "No public access to this resource., Username or password was incorrect";
            let mut response = error(StatusCode::UNAUTHORIZED, "NotAuthenticated", text);
            let challenge = HeaderValue::from_static("Basic realm=\"Nextcloud\", charset=\"UTF-8\"");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            response
        }
        failure => {
            log_failure(&failure);
            error(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", "The account cannot be checked now")
        }
    })
}

/// An error in the original's form; the texts are ours alone, so nothing in them needs escaping.
fn error(status: StatusCode, exception: &str, message: &str) -> Response {
    let body = format!(
        "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n<d:error xmlns:d=\"DAV:\" xmlns:s=\"http://sabredav.org/ns\">\n  \
         <s:exception>Sabre\\DAV\\Exception\\{exception}</s:exception>\n  <s:message>{message}</s:message>\n\
         </d:error>\n"
    );
    (status, [(header::CONTENT_TYPE, "application/xml; charset=utf-8")], body).into_response()
}
