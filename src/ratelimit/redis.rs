//! The shared buckets in Redis: one string for each, with the instant at which it is full; gone when it is.
//!
//! `keygate:limit:{owner}:name`: the braces keep all buckets of an owner in one slot of a cluster. Redis' own clock decides.

use std::sync::{Arc, LazyLock};

use async_trait::async_trait;
use redis::{Script, ScriptInvocation};

use super::gcra::{self, Tat};
use super::{BucketOwner, ChargeRequest, ChargeResponse, Ledger, Micros, NamedLimit, Unavailable};
use crate::clock::Clock;
use crate::redis::{Redis, RedisError};

static CHARGE: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/charge.lua")));
static GIVE_BACK: LazyLock<Script> = LazyLock::new(|| Script::new(include_str!("redis/give_back.lua")));

/// Numbers in the script's answer about the whole, and about each bucket.
const ANSWER_HEAD: usize = 2;
const ANSWER_BUCKET: usize = 3;
/// How long a full bucket is kept, in milliseconds. It says nothing any more; this is for tests, whose clock is another.
const KEPT: u64 = 0;
const KEPT_IN_TESTS: u64 = 3_600_000;

/// Buckets in Redis.
pub struct RedisLedger {
    redis: Arc<Redis>,
    /// In place of Redis' own, for tests.
    clock: Option<Arc<dyn Clock>>,
}

impl RedisLedger {
    /// Buckets in that Redis.
    pub fn new(redis: Arc<Redis>) -> Self {
        Self { redis, clock: None }
    }

    /// Buckets in that Redis, at the time of that clock.
    #[cfg(test)]
    pub(super) fn at(redis: Arc<Redis>, clock: Arc<dyn Clock>) -> Self {
        Self { redis, clock: Some(clock) }
    }

    /// The script with what both begin with.
    fn begin<'a>(
        &self,
        script: &'a Script,
        owner: BucketOwner,
        names: impl Iterator<Item = &'a NamedLimit>,
    ) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        for named in names {
            call.key(bucket(owner, &named.name));
        }
        match &self.clock {
            None => call.arg("").arg(KEPT),
            Some(clock) => call.arg(Micros::of(clock.now()).0).arg(KEPT_IN_TESTS),
        };
        call
    }
}

#[async_trait]
impl Ledger for RedisLedger {
    async fn charge(&self, order: &ChargeRequest<'_>) -> Result<ChargeResponse, Unavailable> {
        let request = order.request;
        let mut call = self.begin(&CHARGE, request.owner, request.limits.iter());
        for (index, limit) in request.each_limit().enumerate() {
            let bits = order.bits(index);
            amount(&mut call, limit.burst());
            amount(&mut call, limit.price(request.cost));
            call.arg(bits);
            (0..bits).rev().for_each(|bit| amount(&mut call, limit.price(1 << bit)));
        }
        let answer: Vec<u64> = self.redis.run_script(&call).await?;
        read(order, &answer).ok_or_else(|| Unavailable("Redis answered what its script never does".into()))
    }

    async fn give_back(&self, owner: BucketOwner, unused: &[(NamedLimit, u64)]) -> Result<(), Unavailable> {
        let mut call = self.begin(&GIVE_BACK, owner, unused.iter().map(|(named, _)| named));
        for (named, count) in unused {
            amount(&mut call, named.limit.price(*count));
        }
        Ok(self.redis.run_script::<u8>(&call).await.map(drop)?)
    }
}

impl From<RedisError> for Unavailable {
    fn from(error: RedisError) -> Self {
        Self(error.to_string())
    }
}

fn bucket(owner: BucketOwner, name: &str) -> String {
    match owner {
        BucketOwner::Key(tenant, key) => format!("keygate:limit:{{{tenant}:{key}}}:{name}"),
        BucketOwner::Actor(tenant, actor) => format!("keygate:limit:{{{tenant}:actor:{}}}:{name}", hex::encode(actor)),
        BucketOwner::Tenant(tenant) => format!("keygate:limit:{{{tenant}}}:{name}"),
        BucketOwner::Address(tenant, address) => format!("keygate:limit:{{{tenant}:address:{address}}}:{name}"),
    }
}

fn amount(call: &mut ScriptInvocation<'_>, span: gcra::Span) {
    let (micros, femtos) = span.parts();
    call.arg(micros.to_string()).arg(femtos.to_string());
}

/// What the script's numbers say. They tell what the buckets were; what that means for the request is worked out here.
fn read(order: &ChargeRequest<'_>, answer: &[u64]) -> Option<ChargeResponse> {
    let request = order.request;
    let (&[admitted, now], buckets) = answer.split_first_chunk::<ANSWER_HEAD>()?;
    let buckets = buckets.chunks_exact(ANSWER_BUCKET);
    let mut tats: Vec<_> = buckets.clone().map(|bucket| Tat::from_parts(bucket[0], bucket[1])).collect();
    let decision = gcra::charge(&mut tats, request.each_limit(), Micros(now), request.cost);
    let agreed = decision.admitted == (admitted == 1) && decision.outcomes.len() == request.limits.len();
    agreed.then(|| ChargeResponse { decision, extras: buckets.map(|bucket| bucket[2]).collect() })
}

#[cfg(test)]
mod tests;
