//! Drives the admin API with the first published SDK: what old callers rely on must not break unseen.
//!
//! The base URL of the admin API is the only argument. Nothing that goes to the output holds a credential.

mod client;
mod imported;
mod issued;
mod tokens;
mod verification;

use std::process::ExitCode;

use client::{Client, Outcome, hold};

/// All that this SDK has.
const OPERATIONS: usize = 17;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let Some(admin) = std::env::args().nth(1) else {
        eprintln!("usage: keygate-sdk-first ADMIN_URL");
        return ExitCode::from(2);
    };
    match drive(&Client::new(admin)).await {
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

async fn drive(client: &Client) -> Outcome {
    issued::life(client).await?;
    imported::life(client).await?;
    imported::batch(client).await?;
    verification::one(client).await?;
    verification::many(client).await?;
    verification::self_revoke(client).await?;
    tokens::derive(client).await?;
    tokens::refuse(client).await?;
    tokens::jwks(client).await?;
    hold(client.called() == OPERATIONS, "every operation of the SDK was called")
}
