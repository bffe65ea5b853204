//! Throttling of client addresses that repeatedly present rejected credentials.
//!
//! Each 401 of a presented credential takes one event from the bucket of its client address, forged tokens included. Above the limit,
//! either the 401 responses of the address are delayed, or its requests are rejected before their credential is verified.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use prometheus::{IntCounterVec, Opts, Registry};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{AuthFailureMode, AuthFailuresConfig};
use crate::ratelimit::AddressBudget;
use crate::verifier::Denial;
use crate::wire::Rejection;

/// Throttles addresses above a limit of rejected credentials.
pub struct AuthFailureThrottle {
    action: Action,
    budget: AddressBudget,
    metrics: AuthFailureMetrics,
}

/// What happens above the limit.
enum Action {
    Delay {
        time: Duration,
        permits: Arc<Semaphore>,
    },
    Reject {
        started: Instant,
        /// Until when some address is above the limit, in milliseconds since `started`. Before that, requests need no look into the
        /// buckets.
        until: AtomicU64,
    },
}

/// The metrics of a throttle.
#[derive(Debug, Clone)]
pub struct AuthFailureMetrics {
    throttled: IntCounterVec,
}

/// A response that is delayed. It counts among the delayed ones until it is dropped.
#[derive(Debug)]
pub struct Delay {
    time: Duration,
    _permit: OwnedSemaphorePermit,
}

impl AuthFailureMetrics {
    /// Registers the metrics.
    ///
    /// # Errors
    /// When `registry` has metrics of these names already.
    pub fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let throttled = IntCounterVec::new(
            Opts::new(
                "keygate_auth_failures_throttled_total",
                "Requests of addresses above the limit of rejected credentials, by action: delayed, not_delayed (max_delayed is \
                 reached), rejected",
            ),
            &["action"],
        )?;
        for action in ["delayed", "not_delayed", "rejected"] {
            throttled.with_label_values(&[action]);
        }
        registry.register(Box::new(throttled.clone()))?;
        Ok(Self { throttled })
    }

    fn count(&self, action: &str) {
        self.throttled.with_label_values(&[action]).inc();
    }
}

impl AuthFailureThrottle {
    /// The throttle of a configuration; `None` if it is off. `budget` has the configured buckets.
    pub fn new(config: &AuthFailuresConfig, budget: AddressBudget, metrics: &AuthFailureMetrics) -> Option<Self> {
        let action = match config.mode {
            AuthFailureMode::Off => return None,
            AuthFailureMode::Delay => {
                let permits = config.max_delayed.min(Semaphore::MAX_PERMITS);
                Action::Delay { time: config.delay.0, permits: Arc::new(Semaphore::new(permits)) }
            }
            AuthFailureMode::Reject => Action::Reject { started: Instant::now(), until: AtomicU64::new(0) },
        };
        Some(Self { action, budget, metrics: metrics.clone() })
    }

    /// Rejects a request that arrived at `arrived`, if its address is above the limit and the mode is `reject`. Costs one load while no
    /// address is above it.
    ///
    /// # Errors
    /// [`Rejection::AuthFailuresExceeded`].
    pub fn check(
        &self,
        address: Option<IpAddr>,
        arrived: Instant,
        is_proven: impl FnOnce() -> bool,
    ) -> Result<(), Rejection> {
        let (Action::Reject { started, until }, Some(address)) = (&self.action, address) else { return Ok(()) };
        if millis(arrived.saturating_duration_since(*started)) >= until.load(Ordering::Relaxed) {
            return Ok(());
        }
        let retry_after = self.budget.wait(address);
        if retry_after.is_zero() || is_proven() {
            return Ok(());
        }
        self.metrics.count("rejected");
        Err(Rejection::AuthFailuresExceeded { retry_after })
    }

    /// Counts a rejection, if it is a 401 of a presented credential. Returns the delay of its response, if there is one.
    pub fn count(&self, rejection: &Rejection, address: Option<IpAddr>) -> Option<Delay> {
        let address = address.filter(|_| is_counted(rejection))?;
        let is_within = self.budget.charge(address);
        match &self.action {
            Action::Delay { time, permits } if !is_within => {
                let permit = Arc::clone(permits).try_acquire_owned().ok();
                self.metrics.count(if permit.is_some() { "delayed" } else { "not_delayed" });
                permit.map(|permit| Delay { time: *time, _permit: permit })
            }
            Action::Delay { .. } => None,
            Action::Reject { started, until } => {
                let wait = self.budget.wait(address);
                if !wait.is_zero() {
                    until.fetch_max(millis(started.elapsed() + wait) + 1, Ordering::Relaxed);
                }
                None
            }
        }
    }
}

impl Delay {
    /// Waits for the time of the delay.
    pub async fn wait(self) {
        tokio::time::sleep(self.time).await;
    }
}

/// Whether a rejection is the 401 of a presented credential.
fn is_counted(rejection: &Rejection) -> bool {
    match rejection {
        Rejection::Denied(denial) => match denial {
            Denial::Unknown(_)
            | Denial::FormatInvalid
            | Denial::SignatureInvalid
            | Denial::Expired
            | Denial::Revoked
            | Denial::AudienceMismatch => true,
            Denial::AddressNotAllowed { .. } | Denial::Unavailable { .. } => false,
        },
        _ => false,
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::{Clock, ManualClock, SystemClock};
    use crate::duration::ConfigDuration;
    use crate::id::RequestId;
    use crate::verifier::{Outage, UnknownReason};
    use crate::wire::credential_locations::CredentialLocations;
    use crate::wire::problem::{ResponseForm, rejection_response};

    fn throttle(mode: AuthFailureMode, max_delayed: usize, clock: Arc<dyn Clock>) -> AuthFailureThrottle {
        let delay = ConfigDuration(Duration::from_millis(700));
        let config = AuthFailuresConfig { mode, burst: 2, per_second: 1, delay, max_delayed };
        let metrics = AuthFailureMetrics::register(&Registry::new()).unwrap();
        AuthFailureThrottle::new(&config, AddressBudget::new(config.burst, config.per_second, clock), &metrics).unwrap()
    }

    fn clock() -> Arc<ManualClock> {
        Arc::new(ManualClock::new(SystemClock.now()))
    }

    fn forged() -> Rejection {
        Denial::SignatureInvalid.into()
    }

    const CLIENT: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::LOCALHOST));

    #[test]
    fn only_401_of_a_credential_is_counted() {
        let all = [
            Rejection::RouteNotFound,
            Rejection::CredentialMissing,
            Rejection::CredentialAmbiguous,
            Rejection::CredentialMalformed,
            Rejection::LimiterUnavailable,
            Rejection::AuthFailuresExceeded { retry_after: Duration::ZERO },
            Rejection::ScopeInsufficient { required: [].into() },
            Denial::Unknown(UnknownReason::Absent).into(),
            Denial::Unknown(UnknownReason::Checksum).into(),
            Denial::FormatInvalid.into(),
            Denial::SignatureInvalid.into(),
            Denial::Expired.into(),
            Denial::Revoked.into(),
            Denial::AudienceMismatch.into(),
            Denial::AddressNotAllowed { known: true }.into(),
            Denial::Unavailable { cause: Outage::Database }.into(),
        ];
        for rejection in all {
            let response = rejection_response(
                &rejection,
                &RequestId::random(),
                ResponseForm::Problem,
                CredentialLocations::standard(),
            );
            let is_expected = response.status() == 401 && rejection != Rejection::CredentialMissing;
            assert_eq!(is_counted(&rejection), is_expected, "{rejection:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn responses_above_the_limit_are_delayed_up_to_a_number() {
        let throttle = throttle(AuthFailureMode::Delay, 1, clock());
        assert!(throttle.count(&forged(), CLIENT).is_none() && throttle.count(&forged(), CLIENT).is_none());
        let delay = throttle.count(&forged(), CLIENT).unwrap();
        assert!(throttle.count(&forged(), CLIENT).is_none(), "one response is delayed at a time");
        assert!(throttle.count(&forged(), None).is_none());
        let started = tokio::time::Instant::now();
        delay.wait().await;
        assert_eq!(started.elapsed().as_millis(), 700);
        drop(throttle.count(&forged(), CLIENT).unwrap());
        assert!(throttle.check(CLIENT, Instant::now(), || false).is_ok());
    }

    #[test]
    fn address_above_the_limit_is_rejected_until_its_bucket_is_refilled() {
        let clock = clock();
        let begun = clock.now();
        let throttle = throttle(AuthFailureMode::Reject, 1, clock.clone());
        let check = |client: &str, is_proven| throttle.check(client.parse().ok(), Instant::now(), || is_proven);
        for client in ["2001:db8::1", "2001:db8::2"] {
            assert!(check(client, false).is_ok());
            assert!(throttle.count(&forged(), client.parse().ok()).is_none());
        }
        let rejected = Err(Rejection::AuthFailuresExceeded { retry_after: Duration::from_secs(1) });
        assert_eq!(check("2001:db8::3", false), rejected);
        assert!(check("2001:db8::3", true).is_ok(), "a credential that was verified before passes");
        assert!(check("2001:db8:0:1::1", false).is_ok());
        assert!(throttle.check(None, Instant::now(), || false).is_ok());
        clock.set(begun + Duration::from_secs(1));
        assert!(check("2001:db8::3", false).is_ok());
    }
}
