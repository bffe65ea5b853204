//! Tower middleware: authenticates the requests of a service inside your own program, without a proxy in front of it.
//!
//! [`AuthLayer`] wraps any `tower::Service` of HTTP requests, such as those of axum, tonic and hyper. For every request it extracts and
//! verifies the credential, checks what the route requires, charges rate limits, removes the credential, and puts a [`Principal`] into
//! the request's extensions. A request that is rejected gets the same response as from the gateway; a gRPC request gets it as a gRPC
//! status. The layer runs the same [`pipeline`](crate::pipeline) as the gateway, over an [`Engine`](crate::engine::Engine) in your process.
//!
//! # Examples
//!
//! ```
//! use std::convert::Infallible;
//!
//! use bytes::Bytes;
//! use http::{Request, Response, StatusCode};
//! use http_body_util::{BodyExt, Full};
//! use keygate::layer::{AuthLayer, Principal};
//! use keygate::testing;
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! async fn orders(request: Request<()>) -> Result<Response<Full<Bytes>>, Infallible> {
//!     let caller = request.extensions().get::<Principal>().expect("the layer has verified a credential");
//!     Ok(Response::new(Full::from(format!("hello {}", caller.actor_id()))))
//! }
//!
//! # tokio::runtime::Runtime::new().unwrap().block_on(async {
//! // In a program: `Engine::builder(config).start().await?`.
//! let engine = testing::engine().await;
//! let auth = AuthLayer::new(&engine);
//! let service = ServiceBuilder::new().layer(auth.require_scopes(["orders:read"])).service_fn(orders);
//!
//! let key = testing::issue_key(&engine, "ana", ["orders:read"]).await;
//! let request = Request::get("/orders").header("authorization", format!("Bearer {key}")).body(()).unwrap();
//! let response = service.clone().oneshot(request).await.unwrap();
//! assert_eq!(response.into_body().collect().await.unwrap().to_bytes(), "hello ana");
//!
//! let anonymous = Request::get("/orders").body(()).unwrap();
//! assert_eq!(service.oneshot(anonymous).await.unwrap().status(), StatusCode::UNAUTHORIZED);
//! # });
//! ```
//!
//! # Cost
//!
//! A request whose key is cached, and whose limits are counted in this process, is decided in `call` without a task, a lock that others
//! hold for long, or a boxed future. It allocates what `http` needs to store an extension, and the values of the rate-limit fields. A
//! lookup in the database or Redis boxes one future.

mod auth_layer;
mod body;
#[cfg(feature = "axum")]
mod extractor;
mod future;
mod kept;
mod prepared;
mod principal;
mod service;

pub use auth_layer::AuthLayer;
pub use body::ResponseBody;
#[cfg(feature = "axum")]
pub use extractor::PrincipalMissing;
pub use future::ResponseFuture;
pub use prepared::ClientIp;
pub use principal::{LimitState, Principal};
pub use service::AuthService;

#[cfg(test)]
mod tests;
