//! Whether all is well: what a running filebell sees of itself, and what a look at everything it depends on found.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use filebell_core::time::TimestampMs;
use serde::{Deserialize, Serialize};

use super::observe::StatusReport;
use super::{Caller, Ops, OpsError};

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was found, in a sentence.
    pub what: String,
    /// What to do about it; `None` if all is well.
    pub remedy: Option<String>,
}

impl Finding {
    /// All is well.
    pub fn well(what: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: None }
    }

    /// Something is wrong, and what to do.
    pub fn wrong(what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), remedy: Some(remedy.into()) }
    }
}

/// One thing that was looked at, as it is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FindingReport {
    /// Whether all is well.
    pub ok: bool,
    /// What was found, in a sentence.
    pub what: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

impl From<Finding> for FindingReport {
    fn from(Finding { what, remedy }: Finding) -> Self {
        Self { ok: remedy.is_none(), what, remedy }
    }
}

/// Looks at everything filebell depends on.
pub type Examine = Box<dyn Fn(Ops) -> Examining + Send + Sync>;
/// A look that is under way.
pub type Examining = Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>;

/// Whether all is well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthReport {
    /// When everything was last looked at; `None` before the first time.
    pub examined_at: Option<TimestampMs>,
    /// What is wrong, worst first.
    pub wrong: Vec<Finding>,
    /// What is well.
    pub well: Vec<Finding>,
}

/// The last look.
#[derive(Default)]
pub(super) struct Health {
    examine: OnceLock<Examine>,
    last: Mutex<Option<(TimestampMs, Arc<[Finding]>)>>,
    /// Held by the look that is under way.
    turn: tokio::sync::Mutex<()>,
}

impl Ops {
    /// From now on `examine` is how everything is looked at.
    pub fn examining(&self, examine: Examine) {
        // A second call changes nothing; there is one app to call it.
        let _ = self.0.health.examine.set(examine);
    }

    /// Looks at everything, and keeps what was found. While a look is under way, waits for that.
    pub async fn examine(&self) {
        let health = &self.0.health;
        let Some(examine) = health.examine.get() else { return };
        let Ok(_turn) = health.turn.try_lock() else {
            drop(health.turn.lock().await);
            return;
        };
        let found = examine(self.clone()).await;
        let last = Some((self.0.seams.now(), found.into()));
        *health.last.lock().unwrap_or_else(PoisonError::into_inner) = last;
    }

    /// Looks at everything, and tells what was found; what is wrong first.
    pub async fn examined(&self, caller: &Caller) -> Result<Vec<FindingReport>, OpsError> {
        self.operator(caller)?;
        self.examine().await;
        let HealthReport { wrong, well, .. } = self.health(caller).await?;
        Ok(wrong.into_iter().chain(well).map(FindingReport::from).collect())
    }

    /// Whether all is well: as it stands now, and as the last look at everything found it.
    pub async fn health(&self, caller: &Caller) -> Result<HealthReport, OpsError> {
        Ok(self.health_with(&self.status(caller).await?))
    }

    pub(super) fn health_with(&self, status: &StatusReport) -> HealthReport {
        let last = self.0.health.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (examined_at, looked) = last.unzip();
        // What was looked at is what everything else rests on.
        let all = looked.iter().flat_map(|found| found.iter()).cloned().chain(status.findings());
        let (wrong, well) = all.partition(|finding| finding.remedy.is_some());
        HealthReport { examined_at, wrong, well }
    }
}

impl StatusReport {
    /// What a running filebell sees of itself.
    pub fn findings(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        for source in &self.sources {
            let reason = source.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
            let text = format!("the root of account {} is {}{reason}", source.account, source.state);
            findings.push(match source.state.as_str() {
                "degraded" | "unusable" => {
                    Finding::wrong(text, "do what the reason says; files there are seen late or not at all")
                }
                _ => Finding::well(text),
            });
        }
        for one in self.subscriptions.iter().filter(|one| one.status == "disabled") {
            let why = one.status_reason.as_deref().unwrap_or("its receiver is gone");
            findings.push(Finding::wrong(
                format!("subscription {} is disabled: {why}", one.name),
                "when its receiver is back, resume it on the page Subscriptions",
            ));
        }
        for one in self.subscriptions.iter().filter(|one| one.dead > 0) {
            let why = one.last_failure.as_deref().unwrap_or_default();
            let text =
                format!("subscription {} has {} dead notifications, the last failure was {why}", one.name, one.dead);
            findings.push(Finding::wrong(text, format!("mend the endpoint, then: filebell replay {}", one.name)));
        }
        for (one, at) in self.subscriptions.iter().filter_map(|one| Some((one, one.unfetched_at.as_ref()?))) {
            findings.push(Finding::wrong(
                format!("subscription {} was told but never fetched, and was last rung at {at}", one.name),
                "see whether its receiver works; whatever it fetches next covers all of it",
            ));
        }
        findings
    }
}
