//! Tests the admin API with the first published SDK, which existing clients use.
//!
//! The only argument is the base URL of the admin API. The output contains no credentials.

mod client;
mod imported;
mod issued;
mod tokens;
mod verification;

use std::process::ExitCode;

use client::{Client, Outcome, hold};

/// The number of operations of this SDK.
const OPERATIONS: usize = 17;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let (Some(admin), Ok(key)) = (std::env::args().nth(1), std::env::var("KEYGATE_ADMIN_KEY")) else {
        eprintln!("usage: KEYGATE_ADMIN_KEY=KEY keygate-sdk-first ADMIN_URL");
        return ExitCode::from(2);
    };
    match run(&Client::new(admin, key)).await {
        Ok(()) => {
            println!("{OPERATIONS} operations");
            ExitCode::SUCCESS
        }
        Err(what) => {
            eprintln!("{what}");
            ExitCode::FAILURE
        }
    }
}

async fn run(client: &Client) -> Outcome {
    issued::lifecycle(client).await?;
    imported::lifecycle(client).await?;
    imported::batch(client).await?;
    verification::one(client).await?;
    verification::many(client).await?;
    verification::self_revoke(client).await?;
    tokens::derive(client).await?;
    tokens::reject(client).await?;
    tokens::jwks(client).await?;
    hold(client.called() == OPERATIONS, "every operation of the SDK was called")
}
