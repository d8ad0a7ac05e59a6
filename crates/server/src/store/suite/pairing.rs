//! Pairing, tokens, and taking both back.

use filebell_core::id::{FamilyId, GrantId, IngestionId, PairingId};

use super::*;

const GRACE: Duration = Duration::from_secs(60);

struct Paired {
    bench: Bench,
    application: Application,
    grant: Grant,
}

impl Paired {
    async fn new() -> Self {
        let bench = Bench::new().await;
        let application = bench.store.upsert_application(new_application("ledger"), at(0)).await.unwrap();
        let (folders, scopes) = (vec!["SEED".into()], vec!["api.dataDelivery".into()]);
        let grant = bench.store.upsert_grant(application.id, bench.account, folders, scopes, at(0)).await.unwrap();
        Self { bench, application, grant }
    }

    fn store(&self) -> &Store {
        &self.bench.store
    }

    async fn family(&self, number: u128, refresh: Option<u8>) -> FamilyId {
        let family = family(number, self.grant.id, refresh);
        self.store().open_family(family.clone(), at(0)).await.unwrap();
        family.id
    }

    async fn exchange(&self, secs: i64, old: u8, fresh: u8) -> Exchanged {
        let exchange = Exchange {
            hash: [old; 32],
            application: self.application.id,
            fresh: [fresh; 32],
            expires_at: at(2000),
            grace: GRACE,
        };
        self.store().exchange_refresh(exchange, at(secs)).await.unwrap()
    }

    fn pairing(&self, number: u128) -> Pairing {
        Pairing {
            id: PairingId::new(Uuid::from_u128(number)),
            application: self.application.id,
            account: self.bench.account,
            redirect_uri: "https://app.example.org/callback".into(),
            scopes: vec!["api.dataIngestion".into()],
            state: "s".into(),
            challenge: Some("c".into()),
            transport: "form".into(),
            session_hash: [3; 32],
            expires_at: at(100),
            status: PairingStatus::Requested,
            code_hash: None,
            code_expires_at: None,
            grant: None,
            family: None,
        }
    }
}

fn family(number: u128, grant: GrantId, refresh: Option<u8>) -> NewFamily {
    let id = FamilyId::new(Uuid::from_u128(number));
    NewFamily { id, grant, expires_at: at(1000), refresh: refresh.map(|byte| [byte; 32]) }
}

fn new_application(name: &str) -> NewApplication {
    NewApplication {
        name: name.into(),
        application_id: format!("{name}-id"),
        client_id: format!("{name}-client"),
        client_secret_hash: Some("$first".into()),
        redirect_urls: vec!["https://app.example.org/callback".into()],
        notification_url: Some("http://127.0.0.1:1/notification".into()),
        signature_encoding: "hex".into(),
        managed: false,
    }
}

fn key(kid: &str, secs: i64) -> SigningKey {
    SigningKey { kid: kid.into(), private: Secret::new(format!("der-{kid}")), created_at: at(secs), retired_at: None }
}

fn fresh(exchanged: &Exchanged) -> bool {
    matches!(exchanged, Exchanged::Fresh(..))
}

#[tokio::test]
async fn one_key_signs_and_those_before_it_are_kept_for_a_while() {
    let bench = Bench::new().await;
    assert!(bench.store.add_first_signing_key(key("a", 0)).await.unwrap());
    assert!(!bench.store.add_first_signing_key(key("b", 1)).await.unwrap(), "the first one stands");
    let revision = bench.store.revision().await.unwrap();
    bench.store.rotate_signing_key(key("c", 10), at(0)).await.unwrap();
    assert_ne!(bench.store.revision().await.unwrap(), revision);
    let keys = bench.store.signing_keys().await.unwrap();
    let retired = SigningKey { retired_at: Some(at(10)), ..key("a", 0) };
    assert_eq!(keys, [key("c", 10), retired]);
    bench.store.rotate_signing_key(key("d", 20), at(11)).await.unwrap();
    let kept: Vec<String> = bench.store.signing_keys().await.unwrap().into_iter().map(|key| key.kid).collect();
    assert_eq!(kept, ["d", "c"]);
}

#[tokio::test]
async fn the_public_url_is_the_one_last_said() {
    let bench = Bench::new().await;
    assert_eq!(bench.store.public_url().await.unwrap(), None);
    for url in ["http://localhost:1", "https://files.example.org"] {
        bench.store.set_public_url(url.into()).await.unwrap();
        assert_eq!(bench.store.public_url().await.unwrap().as_deref(), Some(url));
    }
}

#[tokio::test]
async fn a_family_speaks_for_its_grant_until_it_is_revoked_or_over() {
    let paired = Paired::new().await;
    let (one, other) = (paired.family(1, None).await, paired.family(2, Some(2)).await);
    assert_eq!(paired.store().family_grant(one).await.unwrap(), Some(paired.grant.clone()));
    paired.store().revoke_family(one, at(1)).await.unwrap();
    assert_eq!(paired.store().family_grant(one).await.unwrap(), None);
    assert!(paired.store().family_grant(other).await.unwrap().is_some());
    let found = paired.store().refresh_token([2; 32]).await.unwrap().unwrap();
    assert_eq!((found.family, found.grant.id, found.expires_at, found.live), (other, paired.grant.id, at(1000), true));
    paired.store().open_family(family(3, paired.grant.id, None), at(1000)).await.unwrap();
    assert_eq!(paired.store().refresh_token([2; 32]).await.unwrap(), None, "what has ended is forgotten");
}

#[tokio::test]
async fn a_lost_answer_is_asked_for_again_within_the_grace() {
    let paired = Paired::new().await;
    let id = paired.family(1, Some(1)).await;
    assert!(fresh(&paired.exchange(10, 1, 2).await));
    assert!(fresh(&paired.exchange(69, 1, 3).await), "the answer was lost");
    assert!(fresh(&paired.exchange(75, 3, 4).await));
    assert!(paired.store().family_grant(id).await.unwrap().is_some());
    assert_eq!(paired.store().refresh_token([4; 32]).await.unwrap().unwrap().expires_at, at(2000));
}

#[tokio::test]
async fn an_old_token_ends_the_family_once_the_new_one_was_used_or_the_grace_is_over() {
    let used = Paired::new().await;
    let id = used.family(1, Some(1)).await;
    used.exchange(10, 1, 2).await;
    used.exchange(11, 2, 3).await;
    assert_eq!(used.exchange(12, 1, 4).await, Exchanged::Reused);
    assert_eq!(used.exchange(13, 3, 5).await, Exchanged::Refused, "the newest one, too");
    assert_eq!(used.store().family_grant(id).await.unwrap(), None);

    let late = Paired::new().await;
    late.family(1, Some(1)).await;
    late.exchange(10, 1, 2).await;
    assert_eq!(late.exchange(70, 1, 3).await, Exchanged::Reused);

    let beside = Paired::new().await;
    beside.family(1, Some(1)).await;
    beside.exchange(10, 1, 2).await;
    beside.exchange(11, 1, 3).await;
    beside.exchange(12, 3, 4).await;
    assert_eq!(beside.exchange(13, 2, 5).await, Exchanged::Reused, "of two given for one, one counts");
}

#[tokio::test]
async fn a_refresh_token_is_of_its_application_and_ends() {
    let paired = Paired::new().await;
    paired.family(1, Some(1)).await;
    let other = paired.store().upsert_application(new_application("other"), at(0)).await.unwrap();
    let exchange =
        Exchange { hash: [1; 32], application: other.id, fresh: [2; 32], expires_at: at(2000), grace: GRACE };
    assert_eq!(paired.store().exchange_refresh(exchange, at(1)).await.unwrap(), Exchanged::Refused);
    assert_eq!(paired.exchange(1000, 1, 2).await, Exchanged::Refused);
    assert_eq!(paired.exchange(1, 9, 2).await, Exchanged::Refused);
    assert!(fresh(&paired.exchange(999, 1, 2).await), "a stranger's try changed nothing");
}

#[tokio::test]
async fn a_pairing_is_decided_once_and_its_code_used_once() {
    let paired = Paired::new().await;
    let asked = paired.pairing(1);
    paired.store().add_pairing(asked.clone(), at(0)).await.unwrap();
    assert_eq!(paired.store().pairing(asked.id).await.unwrap(), Some(asked.clone()));
    let new = family(7, paired.grant.id, Some(7));
    assert!(!paired.store().use_code(asked.id, new.clone(), at(1)).await.unwrap(), "not accepted yet");
    let accept = |secs| paired.store().accept_pairing(asked.id, vec!["IN".into()], [9; 32], at(50), at(secs));
    assert!(!accept(100).await.unwrap(), "too late");
    assert!(accept(1).await.unwrap());
    assert!(!accept(2).await.unwrap());
    assert!(!paired.store().reject_pairing(asked.id).await.unwrap());
    let grant = paired.store().grants().await.unwrap().remove(0);
    assert_eq!((grant.folders, grant.scopes), (vec!["IN".to_owned()], asked.scopes));
    assert!(paired.store().use_code(asked.id, new.clone(), at(2)).await.unwrap());
    assert!(!paired.store().use_code(asked.id, family(8, paired.grant.id, None), at(2)).await.unwrap());
    let used = paired.store().pairing(asked.id).await.unwrap().unwrap();
    assert_eq!((used.status, used.family, used.code_hash), (PairingStatus::Used, Some(new.id), Some([9; 32])));
    assert!(paired.store().family_grant(new.id).await.unwrap().is_some());

    let rejected = paired.pairing(2);
    paired.store().add_pairing(rejected.clone(), at(0)).await.unwrap();
    assert!(paired.store().reject_pairing(rejected.id).await.unwrap());
    let late = 100 + 24 * 60 * 60 + 1;
    paired.store().add_pairing(paired.pairing(3), at(late)).await.unwrap();
    assert_eq!(paired.store().pairing(rejected.id).await.unwrap(), None, "what is long past is forgotten");
}

#[tokio::test]
async fn a_grant_that_is_taken_back_ends_what_it_was_owed_visibly() {
    let paired = Paired::new().await;
    let bench = &paired.bench;
    let id = paired.family(1, Some(1)).await;
    bench.record(1, vec![bench.seen("/SEED/a", 1), bench.seen("/SEED/b", 2)]).await;
    let subscription = bench.store.subscriptions().await.unwrap().remove(0).id;
    let mut claimed = bench.claim(1, subscription).await;
    let (first, pending) = (claimed.remove(0), claimed.remove(0));
    bench.settle(1, &first, Step::Delivered).await;
    assert!(bench.store.revoke_grant(paired.grant.id, at(2)).await.unwrap());
    assert!(!bench.store.revoke_grant(paired.grant.id, at(2)).await.unwrap());
    assert!(!bench.settle(2, &pending, Step::Delivered).await);
    assert_eq!(bench.state(first.notification).await, NotificationState::Delivered);
    assert_eq!(bench.state(pending.notification).await, NotificationState::Revoked);
    assert_eq!(bench.subscription(subscription).await.status, SubscriptionStatus::Revoked);
    assert_eq!(bench.store.family_grant(id).await.unwrap(), None);
    assert_eq!(paired.exchange(3, 1, 2).await, Exchanged::Refused);
    assert!(bench.store.grants().await.unwrap().is_empty());
    assert_eq!(bench.store.revoked_grants().await.unwrap(), std::slice::from_ref(&paired.grant));
    bench.record(3, vec![bench.seen("/SEED/c", 3)]).await;
    assert_eq!(bench.store.notifications(subscription, 9).await.unwrap().len(), 2, "nothing more is owed");
    assert_eq!(bench.store.replay_dead(subscription, at(3)).await.unwrap(), 0);

    let again = bench.store.upsert_grant(paired.application.id, bench.account, vec!["SEED".into()], vec![], at(4));
    assert_eq!(again.await.unwrap().id, paired.grant.id);
    bench.record(5, vec![bench.seen("/SEED/d", 4)]).await;
    assert_eq!(bench.claim(5, subscription).await.len(), 1, "a new consent begins anew");
    assert_eq!(bench.store.family_grant(id).await.unwrap(), None, "its old tokens stay dead");
}

#[tokio::test]
async fn a_disabled_application_is_told_later() {
    let paired = Paired::new().await;
    let bench = &paired.bench;
    bench.store.set_application_disabled(paired.application.id, true).await.unwrap();
    bench.record(1, vec![bench.seen("/SEED/a", 1)]).await;
    let subscription = bench.store.subscriptions().await.unwrap().remove(0).id;
    assert_eq!(bench.due(subscription).await, None);
    assert!(bench.claim(1, subscription).await.is_empty());
    bench.store.set_application_disabled(paired.application.id, false).await.unwrap();
    assert_eq!(bench.claim(2, subscription).await.len(), 1);
}

#[tokio::test]
async fn two_secrets_overlap() {
    let paired = Paired::new().await;
    paired.store().rotate_application_secret(paired.application.id, "$second".into(), at(60)).await.unwrap();
    let application = paired.store().applications().await.unwrap().remove(0);
    assert_eq!(application.client_secret_hash, "$second");
    assert_eq!(application.previous_secret, Some(("$first".into(), at(60))));
}

#[tokio::test]
async fn a_detail_is_consumed_once() {
    let paired = Paired::new().await;
    let bench = &paired.bench;
    bench.record(1, vec![bench.seen("/SEED/a", 1)]).await;
    let subscription = bench.store.subscriptions().await.unwrap().remove(0).id;
    let id = bench.store.notifications(subscription, 1).await.unwrap().remove(0).id;
    assert!(bench.store.consume(id, at(2)).await.unwrap());
    assert!(!bench.store.consume(id, at(3)).await.unwrap());
}

#[tokio::test]
async fn an_upload_is_followed_until_it_is_forgotten() {
    let paired = Paired::new().await;
    let announced = Ingestion {
        id: IngestionId::new(Uuid::from_u128(5)),
        grant: paired.grant.id,
        folder: "SEED".into(),
        file_name: b"a\xff".to_vec(),
        status: IngestionStatus::AwaitingUpload,
        created_at: at(1),
        changed_at: at(1),
    };
    paired.store().add_ingestion(announced.clone(), at(0)).await.unwrap();
    let (found, grant) = paired.store().ingestion(announced.id).await.unwrap().unwrap();
    assert_eq!((&found, &grant), (&announced, &paired.grant));
    paired.store().set_ingestion_status(announced.id, IngestionStatus::Done, at(2)).await.unwrap();
    let (found, _) = paired.store().ingestion(announced.id).await.unwrap().unwrap();
    assert_eq!((found.status, found.changed_at), (IngestionStatus::Done, at(2)));
    let next = Ingestion { id: IngestionId::new(Uuid::from_u128(6)), created_at: at(9), ..announced.clone() };
    paired.store().add_ingestion(next.clone(), at(5)).await.unwrap();
    assert!(paired.store().ingestion(announced.id).await.unwrap().is_none());
    paired.store().revoke_grant(paired.grant.id, at(10)).await.unwrap();
    assert!(paired.store().ingestion(next.id).await.unwrap().is_none());
}
