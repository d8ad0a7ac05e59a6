//! Data delivery: the detail of a notification, the listing, the bytes, the delete.

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use filebell_core::id::NotificationId;
use filebell_core::time::TimestampMs;
use filebell_core::wire::sagex3::{self, Detail, Failure, ListedFile, Page};
use uuid::Uuid;

use super::super::file_body;
use super::super::path_names::PathNames;
use super::super::query::Query;
use super::{Refused, caller, json, refuse, refuse_as, wrong};
use crate::ops::{Download, Ops};

pub(super) fn router() -> Router<Ops> {
    let delivery = get(list_or_download).delete(remove);
    Router::new()
        .route("/v1", get(root))
        .route("/v1/", get(root))
        .route("/v1/folders", get(folders))
        .route("/v1/notification/{id}", get(notification))
        .route("/v1/datadelivery/{folder}", delivery.clone())
        .route("/v1/datadelivery/{folder}/", delivery)
}

/// `GET /v1` (section 0.1), for anybody.
async fn root(State(ops): State<Ops>) -> Response {
    json(StatusCode::OK, sagex3::root(ops.public_url()))
}

/// `GET /v1/folders` (section 0.2).
async fn folders(State(ops): State<Ops>, headers: HeaderMap) -> Result<Response, Refused> {
    let caller = caller(&ops, &headers).await?;
    let names = caller.grant.folders.iter().map(String::as_str);
    Ok(json(StatusCode::OK, sagex3::folders(ops.public_url(), names)))
}

/// `GET /v1/notification/{id}` (section 5). May be repeated.
async fn notification(
    State(ops): State<Ops>,
    PathNames([id]): PathNames<1>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let caller = caller(&ops, &headers).await?;
    let id = Uuid::try_parse(&id).map_err(|_| wrong(&ops, Failure::NotificationNotFound))?;
    let found = ops.notification_detail(&caller, NotificationId::new(id)).await;
    let found = found.map_err(refuse(&ops, Failure::NotificationNotFound))?;
    let detail = sagex3::detail(&Detail {
        public_url: ops.public_url(),
        id: found.id,
        application_id: &found.application_id,
        customer: &found.customer,
        created_at: found.created_at,
        folder: &found.folder,
        file_name: &found.file_name,
    });
    Ok(json(StatusCode::OK, detail))
}

/// `GET /v1/datadelivery/{folder}`: a page of the listing (section 6.1), or with `filename` a file (section 6.2).
async fn list_or_download(
    State(ops): State<Ops>,
    PathNames([folder]): PathNames<1>,
    RawQuery(query): RawQuery,
    method: Method,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let caller = caller(&ops, &headers).await?;
    let query = Query::new(query.as_deref());
    if let Some(name) = query.one("filename").map_err(|_| wrong(&ops, Failure::MissingFilename))? {
        let open = ops.open_granted_file(&caller, &folder, name).await.map_err(refuse(&ops, Failure::FileNotFound))?;
        if ops.sagex3().download == Download::Redirect {
            let url = ops.download_url(&caller, &folder, name);
            return Ok((StatusCode::FOUND, [(header::LOCATION, url), (header::CACHE_CONTROL, "no-store".into())])
                .into_response());
        }
        return file_body::answer(open, &method, &headers).await.map_err(refuse(&ops, Failure::FileNotFound));
    }
    let number = match query.one("page") {
        Ok(None) => 1,
        Ok(Some(page)) => page_number(page).ok_or(wrong(&ops, Failure::InvalidPage))?,
        Err(_) => return Err(wrong(&ops, Failure::InvalidPage)),
    };
    let page = ops.folder_page(&caller, &folder, number).await;
    let page = page.map_err(refuse(&ops, Failure::Forbidden))?;
    let files: Vec<ListedFile<'_>> = page
        .files
        .iter()
        .map(|(file, version)| ListedFile {
            key: file.path.below_folder().unwrap_or_default(),
            last_modified: TimestampMs::from_millis(file.fingerprint.mtime_ms()),
            md5: version.md5,
            size: version.size,
        })
        .collect();
    let listing = sagex3::listing(&Page {
        folder: folder.as_bytes(),
        number,
        size: ops.sagex3().page_size.into(),
        files: &files,
        more: page.more,
        always_truncated: ops.sagex3().always_truncated,
    });
    Ok(json(StatusCode::OK, listing))
}

/// `DELETE /v1/datadelivery/{folder}?filename=` (section 6.3): 204, also if it was not there.
async fn remove(
    State(ops): State<Ops>,
    PathNames([folder]): PathNames<1>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let caller = caller(&ops, &headers).await?;
    let query = Query::new(query.as_deref());
    let name = query.one("filename").ok().flatten().ok_or(wrong(&ops, Failure::MissingFilename))?;
    let failed = Failure::DeleteFailed("The file could not be deleted".to_owned());
    let removed = ops.remove_granted_file(&caller, &folder, name).await;
    removed.map_err(refuse_as(&ops, Failure::FileNotFound, failed))?;
    Ok(StatusCode::NO_CONTENT)
}

/// A positive whole number.
fn page_number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number| *number > 0)
}
