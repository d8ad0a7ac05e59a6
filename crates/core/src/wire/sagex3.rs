//! Sage X3's data delivery: the pushed notification, its detail, the listing, and the documents around them.
//!
//! Sections named here are those of the protocol's specification. What is read back is in [`read`].

pub mod ask;
pub mod read;

use serde::Serialize;

use super::{SignedRequest, VerifyError, base, json, percent_encode, sign};
use crate::id::NotificationId;
use crate::secret::Secret;
use crate::subscription::{Customer, SignatureEncoding};
use crate::time::TimestampMs;

/// The header that carries the signature (4.3).
pub const SIGNATURE_HEADER: &str = "HMAC_SHA256";
/// The only `source` there is (4.1).
pub const SOURCE: &str = "dataDeliveryApi";
/// The only kind of event there is (5).
pub const FILE_AVAILABLE: &str = "dataDeliveryFileAvailable";

/// The body of a pushed notification (4.1): which notification of which customer, and where its detail is.
pub fn body(public_url: &str, id: NotificationId, customer: &Customer, created_at: TimestampMs) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Pushed<'a> {
        notification_id: String,
        source: &'a str,
        customer_url: &'a str,
        #[serde(rename = "customerID")]
        customer_id: &'a str,
        datetime: String,
        detail_url: String,
    }
    let uuid = id.uuid().to_string();
    json(&Pushed {
        detail_url: format!("{}/v1/notification/{uuid}", base(public_url)),
        notification_id: uuid,
        source: SOURCE,
        customer_url: &customer.url,
        customer_id: &customer.id,
        datetime: created_at.to_string(),
    })
}

/// Signs a body. The key is the text of the client id (4.3).
pub fn sign(body: Vec<u8>, client_id: &Secret, encoding: SignatureEncoding) -> SignedRequest {
    let tag = tag(client_id, &body);
    let signature = match encoding {
        SignatureEncoding::Hex => sign::hex(&tag),
        SignatureEncoding::Base64 => sign::base64(&tag),
    };
    SignedRequest {
        headers: vec![("Content-Type", "application/json".to_owned()), (SIGNATURE_HEADER, signature)],
        body,
    }
}

fn tag(client_id: &Secret, body: &[u8]) -> sign::Tag {
    sign::hmac_sha256(client_id.expose().as_bytes(), &[body])
}

/// Checks the signature in constant time, written as 64 hex digits of any case or as base64 (4.3), then reads.
///
/// The client id is no secret, so a signature that fits proves little: believe only what is then fetched.
pub fn verify(client_id: &Secret, signature_header: &str, body: &[u8]) -> Result<read::Pushed, VerifyError> {
    let given = signature_header.trim();
    let given = sign::unhex(given).or_else(|| sign::unbase64(given)).ok_or(VerifyError::Signature)?;
    if !sign::same(&given, &tag(client_id, body)) {
        return Err(VerifyError::Signature);
    }
    read::Pushed::from_json(body).map_err(|error| VerifyError::Malformed(error.to_string()))
}

/// One notification's detail (5).
#[derive(Debug, Clone, Copy)]
pub struct Detail<'a> {
    /// The base of the URLs handed out.
    pub public_url: &'a str,
    /// Which notification.
    pub id: NotificationId,
    /// The application's id inside X3; not its client id.
    pub application_id: &'a str,
    /// Whose file.
    pub customer: &'a Customer,
    /// When the notification came to be owed.
    pub created_at: TimestampMs,
    /// The folder: the account's top-level directory.
    pub folder: &'a [u8],
    /// The path below the folder.
    pub file_name: &'a [u8],
}

/// The detail document. Its two ids are spelled the other way round than in the push (4.2).
pub fn detail(detail: &Detail<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Fetched<'a> {
        #[serde(rename = "notificationID")]
        notification_id: String,
        application_id: &'a str,
        customer_code: &'a str,
        customer_id: &'a str,
        customer_url: &'a str,
        datetime: String,
        source: &'a str,
        payload: String,
    }
    json(&Fetched {
        notification_id: detail.id.uuid().to_string(),
        application_id: detail.application_id,
        customer_code: &detail.customer.code,
        customer_id: &detail.customer.id,
        customer_url: &detail.customer.url,
        datetime: detail.created_at.to_string(),
        source: SOURCE,
        payload: payload(detail.public_url, detail.folder, detail.file_name),
    })
}

/// The payload of a detail: JSON that the detail carries as a string (5).
pub fn payload(public_url: &str, folder: &[u8], file_name: &[u8]) -> String {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Payload<'a> {
        event_kind: &'a str,
        folder: &'a str,
        file_name: &'a str,
        download_url: String,
    }
    let bytes = json(&Payload {
        event_kind: FILE_AVAILABLE,
        folder: &String::from_utf8_lossy(folder),
        file_name: &String::from_utf8_lossy(file_name),
        download_url: download_url(public_url, folder, file_name),
    });
    String::from_utf8(bytes).unwrap_or_default()
}

/// Where a file is downloaded and deleted (6.2, 6.3): absolute, the name percent-encoded.
pub fn download_url(public_url: &str, folder: &[u8], file_name: &[u8]) -> String {
    format!("{}/v1/datadelivery/{}", base(public_url), file_link(folder, file_name))
}

fn file_link(folder: &[u8], file_name: &[u8]) -> String {
    format!("{}?filename={}", percent_encode(folder), percent_encode(file_name))
}

/// A file of a listing (6.1).
#[derive(Debug, Clone, Copy)]
pub struct ListedFile<'a> {
    /// The path below the folder.
    pub key: &'a [u8],
    /// The file's own time of last change.
    pub last_modified: TimestampMs,
    /// MD5 of its content.
    pub md5: [u8; 16],
    /// Its size in bytes.
    pub size: u64,
}

/// One page of a listing (6.1).
#[derive(Debug, Clone, Copy)]
pub struct Page<'a> {
    /// The folder.
    pub folder: &'a [u8],
    /// Which page, from 1.
    pub number: u64,
    /// How many files a full page has; 50 in the documentation.
    pub size: u64,
    /// The files of this page, byte by byte in the order of their keys.
    pub files: &'a [ListedFile<'a>],
    /// Whether a page follows.
    pub more: bool,
    /// Say `isTruncated` also on the last page, as documented examples do.
    pub always_truncated: bool,
}

/// The listing document. `maxItems` is a string, and the checksum holds quotes of its own (6.1).
pub fn listing(page: &Page<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Item {
        key: String,
        download_url: String,
        last_modified: String,
        checksum: String,
        size: u64,
        delete_url: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Listing {
        is_truncated: bool,
        max_items: String,
        items_count: usize,
        items: Vec<Item>,
        #[serde(rename = "$next", skip_serializing_if = "Option::is_none")]
        next: Option<String>,
        #[serde(rename = "$previous", skip_serializing_if = "Option::is_none")]
        previous: Option<String>,
    }
    let page_link = |number: u64| format!("{}?page={number}", percent_encode(page.folder));
    let item = |file: &ListedFile<'_>| {
        let link = file_link(page.folder, file.key);
        Item {
            key: String::from_utf8_lossy(file.key).into_owned(),
            download_url: link.clone(),
            last_modified: file.last_modified.to_string(),
            checksum: format!("\"{}\"", sign::hex(&file.md5)),
            size: file.size,
            delete_url: link,
        }
    };
    json(&Listing {
        is_truncated: page.more || page.always_truncated,
        max_items: page.size.to_string(),
        items_count: page.files.len(),
        items: page.files.iter().map(item).collect(),
        next: page.more.then(|| page_link(page.number.saturating_add(1))),
        previous: (page.number > 1).then(|| page_link(page.number.saturating_sub(1))),
    })
}

/// The root document (0.1).
pub fn root(public_url: &str) -> Vec<u8> {
    #[derive(Serialize)]
    struct Access {
        authorise: String,
        token: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Usage {
        folder: String,
        #[serde(rename = "graphQL")]
        graph_ql: String,
        data_ingestion: String,
        data_delivery: String,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Root {
        customer_access: Access,
        customer_usage: Usage,
        api_doc: String,
        business_domains: [&'static str; 1],
    }
    let url = |path: &str| format!("{}/v1/{path}", base(public_url));
    json(&Root {
        customer_access: Access { authorise: url("token/authorise"), token: url("token") },
        customer_usage: Usage {
            folder: url("folders"),
            graph_ql: url("service/{endPoint}/api"),
            data_ingestion: url("dataingestion/{folderName}"),
            data_delivery: url("datadelivery/{folderName}"),
        },
        api_doc: url("swagger"),
        business_domains: ["ALL"],
    })
}

/// The list of granted folders (0.2). Its URLs end in a slash, unlike those of the root document.
pub fn folders<'a>(public_url: &str, names: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Urls {
        data_ingestion: String,
        data_delivery: String,
        data_service: String,
    }
    #[derive(Serialize)]
    struct Folder<'a> {
        name: &'a str,
        #[serde(rename = "$urls")]
        urls: Urls,
    }
    #[derive(Serialize)]
    struct Folders<'a> {
        folders: Vec<Folder<'a>>,
    }
    let folder = |name: &'a str| {
        let (base, encoded) = (base(public_url), percent_encode(name.as_bytes()));
        let urls = Urls {
            data_ingestion: format!("{base}/v1/dataingestion/{encoded}/"),
            data_delivery: format!("{base}/v1/datadelivery/{encoded}/"),
            data_service: format!("{base}/v1/service/X3CLOUDV2_{encoded}/api"),
        };
        Folder { name, urls }
    };
    json(&Folders { folders: names.into_iter().map(folder).collect() })
}

/// Why a request is refused (3.5 and 6.5). The texts are part of the contract.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Authorise or token: a parameter is given twice, is too long, or says what cannot be.
    #[error("Invalid request parameter {0}")]
    InvalidParameter(&'static str),
    /// Authorise or token: a required parameter is missing.
    #[error("Missing required request parameters")]
    MissingParameters,
    /// Token: the grant type is neither of the two.
    #[error("Invalid grant type")]
    GrantType,
    /// The application is disabled.
    #[error("The application registered on Sage Business Cloud is disabled")]
    ApplicationDisabled,
    /// The customer has not decided yet.
    #[error("The pairing request has not been accepted.")]
    PairingNotAccepted,
    /// The code or the refresh token is past its date.
    #[error("The request has expired.")]
    Expired,
    /// No pairing goes with that code, or it was used.
    #[error("Pairing request not found")]
    PairingNotFound,
    /// No customer goes with that URL.
    #[error("Could not associate the requested url with an customer application registered on Sage Business Cloud")]
    UnknownCustomer,
    /// No active application has that client id, or its secret is wrong.
    #[error("Could not associate the values with an active application registered on Sage Business Cloud")]
    UnknownClient,
    /// The redirect URL is not one that the application registered.
    #[error("Could not associate the values with an application registered on Sage Business Cloud")]
    UnknownRedirect,
    /// Authorise or token failed inside; 501 means that here.
    #[error("An internal error occurred: {0}")]
    TokenInternal(String),
    /// Token: there is no key to sign with. The documented text breaks off after "for the".
    #[error("no existing key for the signature of tokens")]
    NoKey,
    /// Download or deletion without `filename`.
    #[error("Missing required request parameters filename")]
    MissingFilename,
    /// Upload without `filename`: the same text in another form.
    #[error("Missing required request parameters filename")]
    UploadMissingFilename,
    /// Upload of a name that exists.
    #[error("File already exists")]
    FileExists,
    /// The access token is missing, unknown or expired.
    #[error("Unauthorised")]
    Unauthorised,
    /// The folder was not granted, or the scope is missing.
    #[error("Forbidden")]
    Forbidden,
    /// `page` is not a positive whole number.
    #[error("Invalid request parameter page")]
    InvalidPage,
    /// No such file.
    #[error("File not found")]
    FileNotFound,
    /// No such notification, or not this token's.
    #[error("Notification not found")]
    NotificationNotFound,
    /// The quota is used up; the answer also carries `Retry-After`.
    #[error("Too Many Requests")]
    TooManyRequests,
    /// An upload that the account, or the disk, has no room for. Not documented: named as HTTP names it.
    #[error("Insufficient Storage")]
    NoRoom,
    /// A listing or a download failed inside.
    #[error("An internal error occurred")]
    Internal,
    /// A deletion failed inside.
    #[error("{0}")]
    DeleteFailed(String),
}

impl Failure {
    /// The HTTP status, where a name that exists is answered in this form.
    pub const fn status_in(&self, form: ErrorForm) -> u16 {
        match (self, form) {
            (Self::FileExists, ErrorForm::Nested) => 401,
            _ => self.status(),
        }
    }

    /// The JSON body in this form.
    pub fn body_in(&self, form: ErrorForm) -> Vec<u8> {
        let message = serde_json::json!({ "message": self.to_string() });
        match (self, form) {
            (Self::MissingFilename, ErrorForm::Documented | ErrorForm::Nested)
            | (Self::UploadMissingFilename, ErrorForm::Nested) => json(&serde_json::json!({ "missingParam": message })),
            (Self::FileExists, ErrorForm::Nested) => json(&serde_json::json!({ "fileExists": message })),
            (Self::Internal, ErrorForm::Documented | ErrorForm::Nested) => {
                json(&serde_json::json!({ "internalError": message }))
            }
            _ => json(&message),
        }
    }

    /// The HTTP status.
    pub const fn status(&self) -> u16 {
        match self {
            Self::InvalidParameter(_)
            | Self::MissingParameters
            | Self::GrantType
            | Self::MissingFilename
            | Self::UploadMissingFilename
            | Self::InvalidPage => 400,
            Self::Unauthorised => 401,
            Self::ApplicationDisabled
            | Self::PairingNotAccepted
            | Self::Expired
            | Self::PairingNotFound
            | Self::FileExists
            | Self::Forbidden => 403,
            Self::UnknownCustomer
            | Self::UnknownClient
            | Self::UnknownRedirect
            | Self::FileNotFound
            | Self::NotificationNotFound => 404,
            Self::TooManyRequests => 429,
            Self::Internal | Self::DeleteFailed(_) => 500,
            Self::TokenInternal(_) | Self::NoKey => 501,
            Self::NoRoom => 507,
        }
    }

    /// The JSON body.
    pub fn body(&self) -> Vec<u8> {
        self.body_in(ErrorForm::Documented)
    }
}

/// How refusals of the data calls are written: two documented pages contradict each other (6.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ErrorForm {
    /// As the page says that shows the call: flat for uploads, nested for the others.
    #[default]
    Documented,
    /// As the page of errors says, for all calls.
    Nested,
    /// A message alone, for all calls.
    Flat,
}

/// The answer to `token` (3.2).
pub fn tokens(access: &Secret, refresh: Option<&Secret>, scope: &str, access_for: std::time::Duration) -> Vec<u8> {
    #[derive(Serialize)]
    struct Tokens<'a> {
        access_token: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        refresh_token: Option<&'a str>,
        scope: &'a str,
        token_type: &'a str,
        expires_in: u64,
    }
    json(&Tokens {
        access_token: access.expose(),
        refresh_token: refresh.map(Secret::expose),
        scope,
        token_type: "Bearer",
        expires_in: access_for.as_secs(),
    })
}

/// How far an upload has come (6.4).
#[derive(Debug, Clone, Copy)]
pub struct Tracking<'a> {
    /// The base of the URLs handed out.
    pub public_url: &'a str,
    /// The upload.
    pub id: crate::id::IngestionId,
    /// The name it was announced under.
    pub file_name: &'a [u8],
    /// When it was announced.
    pub created_at: TimestampMs,
    /// `awaiting_upload`, `done`, `error`: an open set.
    pub status: &'a str,
    /// The same for a person.
    pub message: &'a str,
    /// When it last changed.
    pub changed_at: TimestampMs,
    /// The customer's short code.
    pub customer_code: &'a str,
    /// Where it goes.
    pub folder: &'a str,
}

/// The tracking document (6.4).
pub fn tracking(tracking: &Tracking<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Document<'a> {
        #[serde(rename = "$url")]
        url: String,
        file_name: &'a str,
        created_at: String,
        status: &'a str,
        status_message: &'a str,
        last_status_update: String,
        customer_code: &'a str,
        folder: &'a str,
    }
    json(&Document {
        url: tracking_url(tracking.public_url, tracking.id),
        file_name: &String::from_utf8_lossy(tracking.file_name),
        created_at: tracking.created_at.to_string(),
        status: tracking.status,
        status_message: tracking.message,
        last_status_update: tracking.changed_at.to_string(),
        customer_code: tracking.customer_code,
        folder: tracking.folder,
    })
}

/// The answer to an announced upload (6.4).
pub fn announced(public_url: &str, upload_url: &str, id: crate::id::IngestionId) -> Vec<u8> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Announced<'a> {
        upload_url: &'a str,
        tracking_url: String,
    }
    json(&Announced { upload_url, tracking_url: tracking_url(public_url, id) })
}

fn tracking_url(public_url: &str, id: crate::id::IngestionId) -> String {
    format!("{}/v1/dataingestion/tracking/{}", base(public_url), id.uuid())
}

#[cfg(test)]
mod tests {
    use super::*;
    use uuid::Uuid;

    fn text(bytes: Vec<u8>) -> String {
        String::from_utf8(bytes).unwrap()
    }

    fn customer() -> Customer {
        Customer {
            url: "https://x3.acme.example".into(),
            id: "9e0a7d54-6c1b-4d3f-8b2a-1f5e6c7d8a90".into(),
            code: "acme".into(),
        }
    }

    fn id() -> NotificationId {
        NotificationId::new(Uuid::try_parse("0d9c1c6e-3f0b-4b52-8a53-6f1d2c7e4b11").unwrap())
    }

    #[test]
    fn the_detail_is_the_documented_one() {
        let customer = customer();
        let written = detail(&Detail {
            public_url: "https://api.eu-prod-sagex3.com",
            id: id(),
            application_id: "3d7a1c52-90be-4f66-a1c7-8e2b5d4f6071",
            customer: &customer,
            created_at: TimestampMs::from_millis(1_709_626_150_111),
            folder: b"SEED",
            file_name: b"orders.txt",
        });
        let expected = concat!(
            r#"{"notificationID":"0d9c1c6e-3f0b-4b52-8a53-6f1d2c7e4b11","#,
            r#""applicationId":"3d7a1c52-90be-4f66-a1c7-8e2b5d4f6071","customerCode":"acme","#,
            r#""customerId":"9e0a7d54-6c1b-4d3f-8b2a-1f5e6c7d8a90","customerUrl":"https://x3.acme.example","#,
            r#""datetime":"2024-03-05T08:09:10.111Z","source":"dataDeliveryApi","#,
            r#""payload":"{\"eventKind\":\"dataDeliveryFileAvailable\",\"folder\":\"SEED\",\"fileName\":\"orders.txt\","#,
            r#"\"downloadUrl\":\"https://api.eu-prod-sagex3.com/v1/datadelivery/SEED?filename=orders.txt\"}"}"#
        );
        assert_eq!(text(written.clone()), expected);

        let read = read::Detail::from_json(&written).unwrap();
        let pushed = read::Pushed::from_json(&body("https://a", id(), &customer, TimestampMs::ZERO)).unwrap();
        assert!(read.agrees_with(&pushed));
        let read::Payload::FileAvailable(file) = read.payload else { panic!("another kind") };
        assert_eq!((file.folder.as_str(), file.file_name.as_str()), ("SEED", "orders.txt"));
    }

    #[test]
    fn the_listing_is_the_documented_one() {
        let files = [ListedFile {
            key: b"orders.txt",
            last_modified: TimestampMs::from_millis(1_709_626_140_000),
            md5: hex::decode("b1946ac92492d2347c6235b4d2611184").unwrap().try_into().unwrap(),
            size: 6,
        }];
        let written =
            listing(&Page { folder: b"SEED", number: 2, size: 50, files: &files, more: true, always_truncated: false });
        let expected = concat!(
            r#"{"isTruncated":true,"maxItems":"50","itemsCount":1,"items":[{"key":"orders.txt","#,
            r#""downloadUrl":"SEED?filename=orders.txt","lastModified":"2024-03-05T08:09:00.000Z","#,
            r#""checksum":"\"b1946ac92492d2347c6235b4d2611184\"","size":6,"deleteUrl":"SEED?filename=orders.txt"}],"#,
            r#""$next":"SEED?page=3","$previous":"SEED?page=1"}"#
        );
        assert_eq!(text(written.clone()), expected);
        let read = read::Listing::from_json(&written).unwrap();
        assert_eq!(read.next.as_deref(), Some("SEED?page=3"));
        assert_eq!(read.items[0].md5(), Some(files[0].md5));

        let empty =
            listing(&Page { folder: b"SEED", number: 1, size: 50, files: &[], more: false, always_truncated: false });
        assert_eq!(text(empty), r#"{"isTruncated":false,"maxItems":"50","itemsCount":0,"items":[]}"#);
    }

    #[test]
    fn the_documents_around_it_are_the_documented_ones() {
        let expected = concat!(
            r#"{"customerAccess":{"authorise":"https://api.eu-prod-sagex3.com/v1/token/authorise","#,
            r#""token":"https://api.eu-prod-sagex3.com/v1/token"},"#,
            r#""customerUsage":{"folder":"https://api.eu-prod-sagex3.com/v1/folders","#,
            r#""graphQL":"https://api.eu-prod-sagex3.com/v1/service/{endPoint}/api","#,
            r#""dataIngestion":"https://api.eu-prod-sagex3.com/v1/dataingestion/{folderName}","#,
            r#""dataDelivery":"https://api.eu-prod-sagex3.com/v1/datadelivery/{folderName}"},"#,
            r#""apiDoc":"https://api.eu-prod-sagex3.com/v1/swagger","businessDomains":["ALL"]}"#
        );
        assert_eq!(text(root("https://api.eu-prod-sagex3.com/")), expected);
        let expected = concat!(
            r#"{"folders":[{"name":"SEED","$urls":{"#,
            r#""dataIngestion":"https://api.eu-prod-sagex3.com/v1/dataingestion/SEED/","#,
            r#""dataDelivery":"https://api.eu-prod-sagex3.com/v1/datadelivery/SEED/","#,
            r#""dataService":"https://api.eu-prod-sagex3.com/v1/service/X3CLOUDV2_SEED/api"}}]}"#
        );
        assert_eq!(text(folders("https://api.eu-prod-sagex3.com", ["SEED"])), expected);
        assert_eq!(text(folders("https://a", [])), r#"{"folders":[]}"#);
    }

    #[test]
    fn a_refusal_says_it_in_the_documented_form() {
        for (failure, status, body) in [
            (
                Failure::MissingFilename,
                400,
                r#"{"missingParam":{"message":"Missing required request parameters filename"}}"#,
            ),
            (Failure::UploadMissingFilename, 400, r#"{"message":"Missing required request parameters filename"}"#),
            (Failure::Unauthorised, 401, r#"{"message":"Unauthorised"}"#),
            (Failure::Internal, 500, r#"{"internalError":{"message":"An internal error occurred"}}"#),
            (Failure::TokenInternal("x".into()), 501, r#"{"message":"An internal error occurred: x"}"#),
            (Failure::NoKey, 501, r#"{"message":"no existing key for the signature of tokens"}"#),
        ] {
            assert_eq!((failure.status(), text(failure.body()).as_str()), (status, body));
            assert_eq!(read::error_message(&failure.body()), failure.to_string());
        }
    }

    #[test]
    fn a_signature_is_taken_as_hex_of_any_case_and_as_base64() {
        let key = Secret::new("client");
        let request = sign(body("https://a", id(), &customer(), TimestampMs::ZERO), &key, SignatureEncoding::Hex);
        let hex = &request.headers[1].1;
        let base64 = &sign(request.body.clone(), &key, SignatureEncoding::Base64).headers[1].1;
        for good in [hex, &hex.to_uppercase(), base64] {
            assert!(verify(&key, good, &request.body).is_ok(), "{good}");
        }
        for wrong in ["", &hex[1..], &format!("sha256={hex}"), &base64[..43]] {
            assert!(matches!(verify(&key, wrong, &request.body), Err(VerifyError::Signature)), "{wrong}");
        }
        assert!(verify(&Secret::new("Client"), hex, &request.body).is_err());
    }
}
