//! Uploads (section 6.4): `POST` announces, `PUT` to the signed URL brings the bytes, tracking tells how it went.

use axum::Router;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use filebell_core::id::IngestionId;
use filebell_core::wire::sagex3::{self, Failure, Tracking};
use futures_util::StreamExt;
use headers::{ContentLength, HeaderMapExt};
use uuid::Uuid;

use super::super::path_names::PathNames;
use super::super::query::Query;
use super::{Refused, caller, json, refuse, storage, wrong};
use crate::ops::{IngestionStatus, Ops, OpsError, UploadError};

pub(super) fn router() -> Router<Ops> {
    Router::new()
        .route("/v1/dataingestion/{folder}", post(announce))
        .route("/v1/dataingestion/{folder}/", post(announce))
        .route("/v1/dataingestion/tracking/{id}", get(track))
        .route("/v1/storage/{grant}/{upload}", put(take))
}

/// `POST /v1/dataingestion/{folder}?filename=`.
async fn announce(
    State(ops): State<Ops>,
    PathNames([folder]): PathNames<1>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let caller = caller(&ops, &headers).await?;
    let query = Query::new(query.as_deref());
    let name = query.one("filename").ok().flatten().filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| wrong(&ops, Failure::UploadMissingFilename))?;
    let announced = ops.announce_upload(&caller, &folder, name).await.map_err(|error| match error {
        OpsError::Path(_) => wrong(&ops, Failure::InvalidParameter("filename")),
        other => refuse(&ops, Failure::FileNotFound)(other),
    });
    let (ingestion, url) = announced?;
    Ok(json(StatusCode::OK, sagex3::announced(ops.public_url(), &url, ingestion.id)))
}

/// `GET /v1/dataingestion/tracking/{id}`.
async fn track(State(ops): State<Ops>, PathNames([id]): PathNames<1>, headers: HeaderMap) -> Result<Response, Refused> {
    let caller = caller(&ops, &headers).await?;
    let id = Uuid::try_parse(&id).map(IngestionId::new).map_err(|_| wrong(&ops, Failure::FileNotFound))?;
    let found = ops.upload_status(&caller, id).await.map_err(refuse(&ops, Failure::FileNotFound))?;
    let message = match found.status {
        IngestionStatus::AwaitingUpload => "Waiting for upload",
        IngestionStatus::Done => "Done",
        IngestionStatus::Error => "The upload broke off; it may be sent again",
    };
    let document = sagex3::tracking(&Tracking {
        public_url: ops.public_url(),
        id,
        file_name: &found.file_name,
        created_at: found.created_at,
        status: found.status.as_str(),
        message,
        changed_at: found.changed_at,
        customer_code: &caller.account.customer_code,
        folder: &found.folder,
    });
    Ok(json(StatusCode::OK, document))
}

/// `PUT` to the signed URL: the bytes, no token.
async fn take(
    State(ops): State<Ops>,
    PathNames([grant, upload]): PathNames<2>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Response> {
    let query = Query::new(query.as_deref());
    let url = storage::signed(&query, &grant, &upload, b"");
    let refused = |error| storage::refused(&ops, error).into_response();
    let size = headers.typed_get::<ContentLength>().map(|ContentLength(size)| size);
    let bytes_max = ops.sagex3().upload_bytes_max;
    let mut ingesting = ops.begin_ingestion(&url, size).await.map_err(refused)?;
    let mut received: u64 = 0;
    let mut stream = body.into_data_stream();
    let too_large = size.is_some_and(|size| size > bytes_max);
    loop {
        let piece = if too_large { None } else { stream.next().await };
        match piece {
            None if !too_large => break,
            Some(Ok(bytes)) if received.saturating_add(bytes.len() as u64) <= bytes_max => {
                received = received.saturating_add(bytes.len() as u64);
                if let Err(error) = ingesting.write(bytes).await {
                    ops.break_off_ingestion(ingesting).await.map_err(refused)?;
                    return Err(refused(error));
                }
            }
            Some(Err(_)) => {
                ops.break_off_ingestion(ingesting).await.map_err(refused)?;
                return Err(json(StatusCode::BAD_REQUEST, br#"{"message":"The upload broke off"}"#.to_vec()));
            }
            None | Some(Ok(_)) => {
                ops.break_off_ingestion(ingesting).await.map_err(refused)?;
                let body = format!(r#"{{"message":"An upload has at most {bytes_max} bytes"}}"#);
                return Err(json(StatusCode::PAYLOAD_TOO_LARGE, body.into_bytes()));
            }
        }
    }
    ops.end_ingestion(ingesting, size).await.map_err(|error| match error {
        OpsError::Upload(UploadError::Size { .. }) => {
            json(StatusCode::BAD_REQUEST, br#"{"message":"The upload broke off"}"#.to_vec())
        }
        other => refused(other),
    })?;
    Ok(StatusCode::OK)
}
