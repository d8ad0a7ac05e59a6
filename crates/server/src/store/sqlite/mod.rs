//! stub
use super::*;
#[derive(Clone)]
pub struct SqliteStore;
impl SqliteStore {
    pub async fn open(_: &Path, _: StoreKey) -> Result<Self, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn upsert_account(&self, _account: NewAccount, _now: TimestampMs) -> Result<Account, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn accounts(&self) -> Result<Vec<Account>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn remove_account(&self, _account: AccountId) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn upsert_application(
        &self,
        _application: NewApplication,
        _now: TimestampMs,
    ) -> Result<Application, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn applications(&self) -> Result<Vec<Application>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn remove_application(&self, _application: ApplicationId) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn upsert_grant(
        &self,
        _application: ApplicationId,
        _account: AccountId,
        _folders: Vec<String>,
        _scopes: Vec<String>,
        _now: TimestampMs,
    ) -> Result<Grant, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn grants(&self) -> Result<Vec<Grant>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn upsert_subscription(
        &self,
        _subscription: NewSubscription,
        _now: TimestampMs,
    ) -> Result<Subscription, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn subscriptions(&self) -> Result<Vec<Subscription>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn set_subscription_status(
        &self,
        _subscription: SubscriptionId,
        _status: SubscriptionStatus,
        _reason: Option<String>,
    ) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn remove_subscription(&self, _subscription: SubscriptionId) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn add_tokens(&self, _tokens: Vec<Token>, _now: TimestampMs) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn token(&self, _hash: [u8; 32]) -> Result<Option<(Token, Grant)>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn record(
        &self,
        _arrivals: Vec<Arrival>,
        _now: TimestampMs,
        _ids: FreshIds,
    ) -> Result<Vec<Recorded>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn file_at(&self, _account: AccountId, _path: FilePath) -> Result<Option<StoredFile>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn files_with_inode(&self, _account: AccountId, _inode: u64) -> Result<Vec<StoredFile>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn files(
        &self,
        _account: AccountId,
        _below: Option<FilePath>,
        _after: Option<FilePath>,
        _limit: u32,
    ) -> Result<Vec<StoredFile>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn files_page(
        &self,
        _account: AccountId,
        _below: FilePath,
        _skip: u64,
        _limit: u32,
    ) -> Result<Vec<StoredFile>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn recent(&self, _account: AccountId, _since: TimestampSecs) -> Result<Vec<StoredFile>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn acknowledge_recent(&self, _account: AccountId, _newest: TimestampSecs) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn changes(&self, _of: ChangesOf, _after: Cursor, _limit: u32) -> Result<Changes, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn newest(&self) -> Result<Cursor, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn root_state(&self, _account: AccountId, _now: TimestampMs) -> Result<RootState, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn set_baseline_done(&self, _account: AccountId) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn due(&self) -> Result<Vec<(SubscriptionId, TimestampMs)>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn claim(
        &self,
        _subscription: SubscriptionId,
        _now: TimestampMs,
        _lease: Duration,
        _limit: u32,
    ) -> Result<Vec<Claimed>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn settle(
        &self,
        _settlements: Vec<Settlement>,
        _now: TimestampMs,
        _ids: FreshIds,
    ) -> Result<Vec<bool>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn notification(&self, _id: NotificationId) -> Result<Option<Notification>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn attempts(&self, _id: NotificationId) -> Result<Vec<Attempt>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn notifications(
        &self,
        _subscription: SubscriptionId,
        _limit: u32,
    ) -> Result<Vec<Notification>, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn replay_dead(&self, _subscription: SubscriptionId, _now: TimestampMs) -> Result<u64, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn revision(&self) -> Result<i64, StoreError> {
        Err(StoreError::Closed)
    }
    pub async fn ping(&self) -> Result<(), StoreError> {
        Err(StoreError::Closed)
    }
}
