//! The shared buckets in Redis. A bucket is a string that holds its theoretical arrival time and expires when the bucket is full.
//!
//! The name is `keygate:limit:{owner}:name`. The hash tag keeps all buckets of an owner in one slot of a cluster. The clock of
//! Redis decides.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use redis::{Script, ScriptInvocation};

use super::gcra::{self, Tat};
use super::{BucketOwner, BucketStore, ChargeRequest, ChargeResponse, Micros, NamedLimit, Unavailable};
use crate::clock::Clock;
use crate::redis::{Redis, RedisError};

static CHARGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/charge.lua")));
static REFUND: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/refund.lua")));

/// Numbers at the start of the script's reply, and for each bucket.
const REPLY_HEAD: usize = 2;
const REPLY_BUCKET: usize = 3;
/// How long a full bucket is kept, in milliseconds. Tests keep it longer, because their clock is not that of Redis.
const KEEP_FULL: u64 = 0;
const KEEP_FULL_IN_TESTS: u64 = 3_600_000;

/// A [`BucketStore`] in Redis.
pub struct RedisBucketStore {
    redis: Arc<Redis>,
    /// Replaces the clock of Redis in tests.
    clock: Option<Arc<dyn Clock>>,
}

impl RedisBucketStore {
    /// The buckets in this Redis.
    pub fn new(redis: Arc<Redis>) -> Self {
        Self { redis, clock: None }
    }

    /// The buckets in this Redis, with another clock.
    #[cfg(test)]
    pub(super) fn with_clock(redis: Arc<Redis>, clock: Arc<dyn Clock>) -> Self {
        Self { redis, clock: Some(clock) }
    }

    /// Prepares a script with the arguments that both scripts begin with.
    fn prepare<'a>(
        &self,
        script: &'a Script,
        owner: BucketOwner,
        names: impl Iterator<Item = &'a NamedLimit>,
    ) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        for named in names {
            call.key(bucket_name(owner, &named.name));
        }
        match &self.clock {
            None => call.arg("").arg(KEEP_FULL),
            Some(clock) => call.arg(Micros::of(clock.now()).0).arg(KEEP_FULL_IN_TESTS),
        };
        call
    }
}

#[async_trait]
impl BucketStore for RedisBucketStore {
    async fn charge(&self, request: &ChargeRequest<'_>) -> Result<ChargeResponse, Unavailable> {
        let charge = request.charge;
        let mut call = self.prepare(&CHARGE, charge.owner, charge.limits.iter());
        for (index, limit) in charge.each_limit().enumerate() {
            let bits = request.lease_bits_of(index);
            push_span(&mut call, limit.burst());
            push_span(&mut call, limit.increment(charge.cost));
            call.arg(bits);
            (0..bits).rev().for_each(|bit| push_span(&mut call, limit.increment(1 << bit)));
        }
        let reply: Vec<u64> = self.redis.run_script(&call).await?;
        parse_reply(request, &reply)
            .ok_or_else(|| Unavailable("Redis sent an invalid reply to the charge script".into()))
    }

    async fn refund(&self, owner: BucketOwner, unused: &[(NamedLimit, u64)]) -> Result<(), Unavailable> {
        let mut call = self.prepare(&REFUND, owner, unused.iter().map(|(named, _)| named));
        for (named, count) in unused {
            push_span(&mut call, named.limit.increment(*count));
        }
        Ok(self.redis.run_script::<u8>(&call).await.map(drop)?)
    }
}

impl From<RedisError> for Unavailable {
    fn from(error: RedisError) -> Self {
        Self(error.to_string())
    }
}

fn bucket_name(owner: BucketOwner, name: &str) -> String {
    match owner {
        BucketOwner::Key(tenant, key) => format!("keygate:limit:{{{tenant}:{key}}}:{name}"),
        BucketOwner::Actor(tenant, actor) => format!("keygate:limit:{{{tenant}:actor:{}}}:{name}", hex::encode(actor)),
        BucketOwner::Tenant(tenant) => format!("keygate:limit:{{{tenant}}}:{name}"),
        BucketOwner::Address(tenant, address) => format!("keygate:limit:{{{tenant}:address:{address}}}:{name}"),
    }
}

fn push_span(call: &mut ScriptInvocation<'_>, span: gcra::Span) {
    let (micros, femtos) = span.parts();
    call.arg(micros.to_string()).arg(femtos.to_string());
}

/// Parses the script's reply. It holds the buckets before the charge; the outcomes are computed from them here.
fn parse_reply(request: &ChargeRequest<'_>, reply: &[u64]) -> Option<ChargeResponse> {
    let charge = request.charge;
    let (&[admitted, now], buckets) = reply.split_first_chunk::<REPLY_HEAD>()?;
    let buckets = buckets.chunks_exact(REPLY_BUCKET);
    let mut tats: Vec<_> = buckets.clone().map(|bucket| Tat::from_parts(bucket[0], bucket[1])).collect();
    let decision = gcra::charge(&mut tats, charge.each_limit(), Micros(now), charge.cost);
    let is_consistent = decision.admitted == (admitted == 1) && decision.outcomes.len() == charge.limits.len();
    is_consistent.then(|| ChargeResponse { decision, leased: buckets.map(|bucket| bucket[2]).collect() })
}

#[cfg(test)]
mod tests;
