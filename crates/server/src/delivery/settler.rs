//! Writes ended attempts, all that have gathered in one commit.
//!
//! A receiver that accepted has accepted: when the store fails, the outcomes are kept here and written again, and
//! nothing new is claimed until they are. However long that takes, nobody else claims what waits here.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use filebell_core::id::SubscriptionId;
use filebell_core::retry::Step;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::dispatcher::Shared;
use crate::metrics::Commit;
use crate::store::{Settlement, StoreError};

/// At most this many attempts are written in one commit.
const BATCH_ATTEMPTS_MAX: usize = 1024;
/// The first wait after a failed commit; each further one is twice as long.
const AGAIN_MIN: Duration = Duration::from_millis(50);
/// The longest wait after a failed commit.
const AGAIN_MAX: Duration = Duration::from_secs(5);
/// When filebell stops, a failing store is given this long.
const STOPPING_MAX: Duration = Duration::from_secs(5);

/// Settles until all who send attempts are gone.
pub(super) async fn run(shared: Arc<Shared>, ended: mpsc::UnboundedReceiver<Settlement>) {
    let (kept, mut to_write) = mpsc::unbounded_channel();
    let write = async {
        let mut batch = Vec::new();
        while to_write.recv_many(&mut batch, BATCH_ATTEMPTS_MAX).await > 0 {
            settle(&shared, std::mem::take(&mut batch).into()).await;
        }
    };
    tokio::join!(keep(&shared, ended, kept), write);
}

/// Keeps what has ended from being claimed again, while what ended before is written.
async fn keep(
    shared: &Shared,
    mut ended: mpsc::UnboundedReceiver<Settlement>,
    kept: mpsc::UnboundedSender<Settlement>,
) {
    while let Some(one) = ended.recv().await {
        shared.store.keep(&one.claimed);
        // Whoever writes goes on until this sender is gone.
        let _ = kept.send(one);
    }
}

async fn settle(shared: &Shared, batch: Arc<[Settlement]>) {
    match write(shared, &batch).await {
        Ok(()) => (),
        // One row that cannot be settled must not hold up the others.
        Err(error) if is_about_a_row(&error) => {
            for one in &*batch {
                if let Err(error) = write(shared, &[one.clone()].into()).await {
                    shared.store.let_lapse(&one.claimed);
                    shared.onlookers.metrics.unwritten(1);
                    tracing::error!(
                        error = &error as &dyn Error,
                        notification.id = %one.claimed.notification,
                        "an attempt could not be written; the notification will be sent again"
                    );
                }
            }
        }
        Err(error) => {
            shared.onlookers.metrics.unwritten(batch.len());
            tracing::error!(
                error = &error as &dyn Error,
                attempts = batch.len(),
                "ended attempts could not be written before the stop; the notifications will be sent again"
            );
        }
    }
    let disabled: Vec<SubscriptionId> =
        batch.iter().filter(|one| one.step == Step::Disable).map(|one| one.claimed.subscription).collect();
    if !disabled.is_empty() {
        shared.disabled(&disabled).await;
    }
    shared.release(batch.len());
}

/// Writes a batch, however often it takes; gives up only when what fails is a row and not the store, or when filebell
/// stops.
async fn write(shared: &Shared, batch: &Arc<[Settlement]>) -> Result<(), StoreError> {
    let mut wait = AGAIN_MIN;
    let mut give_up_at = None;
    loop {
        let error = match shared.store.settle(batch.clone(), shared.seams.now(), shared.seams.fresh_ids()).await {
            Ok(held) => {
                shared.set_store_fails(false);
                shared.onlookers.feed.push(batch.iter().zip(&held).filter(|(_, held)| **held).map(|(one, _)| one));
                for (one, held) in batch.iter().zip(held) {
                    let message = if held { "settled" } else { "settled by somebody else" };
                    tracing::debug!(notification.id = %one.claimed.notification, message);
                }
                return Ok(());
            }
            Err(error) => error,
        };
        shared.onlookers.metrics.commit_failed(Commit::Attempts);
        if is_about_a_row(&error) {
            // It takes others.
            shared.set_store_fails(false);
            return Err(error);
        }
        shared.set_store_fails(true);
        if shared.stop.is_cancelled() && Instant::now() >= *give_up_at.get_or_insert(Instant::now() + STOPPING_MAX) {
            return Err(error);
        }
        tracing::error!(
            error = &error as &dyn Error,
            attempts = batch.len(),
            "ended attempts could not be written; nothing is claimed until they are"
        );
        sleep(wait).await;
        wait = (wait * 2).min(AGAIN_MAX);
    }
}

/// Whether trying again cannot help, because what fails is a row and not the store.
fn is_about_a_row(error: &StoreError) -> bool {
    matches!(error, StoreError::Corrupt { .. } | StoreError::WrongKey | StoreError::Missing(_))
}
