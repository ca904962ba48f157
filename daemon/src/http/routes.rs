//! Routes of the API, and the middleware in front of the handlers.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request};
use axum::http::{HeaderName, HeaderValue, header};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, post, put};
use axum::{Json, Router};
use chat_proto::error::ErrorCode;
use hyper::body::Body as _;

use crate::http::api_state::Api;
use crate::http::auth::guard;
use crate::http::calls::{ApiCall, RequestBody, openapi};
use crate::http::event_stream;
use crate::http::extract::{LINES, QueryParams, media_type};
use crate::http::handlers::{invites, members, messages, metrics, peers, readers, status, tokens, web};
use crate::http::problem::Refusal;

const RESOURCE_POLICY: HeaderName = HeaderName::from_static("cross-origin-resource-policy");

type Handler = MethodRouter<Arc<Api>>;

/// Every path with its handlers.
pub(crate) fn routes() -> Vec<(&'static str, Handler)> {
    vec![
        ("/healthz", get(status::healthz)),
        ("/metrics", get(metrics::metrics)),
        ("/v1/openapi.json", get(async || Json(openapi::document()))),
        ("/v1/status", get(status::status)),
        ("/v1/peers", get(peers::peers)),
        ("/v1/rendezvous", get(peers::rendezvous)),
        ("/v1/messages", post(messages::post).get(messages::history)),
        ("/v1/messages/{id}", get(messages::get)),
        ("/v1/events", get(event_stream::events)),
        ("/v1/invites", post(invites::create).get(invites::list)),
        ("/v1/invites/{id}", delete(invites::revoke)),
        ("/v1/knocks", get(members::knocks)),
        ("/v1/knocks/{id}", post(members::answer_knock)),
        ("/v1/members/{id}", get(members::get)),
        ("/v1/members/{id}/remove", post(members::remove)),
        ("/v1/members/{id}/role", put(members::set_role)),
        ("/v1/members/{id}/trust", post(members::trust)),
        ("/v1/name", put(members::rename)),
        ("/v1/join", post(members::join)),
        ("/v1/leave", post(members::leave)),
        ("/v1/tokens", post(tokens::create).get(tokens::list)),
        ("/v1/tokens/{id}", delete(tokens::revoke)),
        ("/v1/tokens/{id}/rotate", post(tokens::rotate)),
        ("/v1/web/links", post(web::create_link)),
        ("/v1/web/sessions", post(web::open_session).delete(web::end_session)),
        ("/v1/rooms", get(members::rooms)),
        ("/v1/readers/{id}", get(readers::get).put(readers::put)),
        ("/v1/shutdown", post(status::shutdown)),
    ]
}

/// The whole API, and the page that uses it.
pub(crate) fn router(api: Arc<Api>) -> Router {
    routes()
        .into_iter()
        .fold(web::pages(), |router, (path, handlers)| router.route(path, handlers))
        .fallback(no_such_call)
        .method_not_allowed_fallback(no_such_method)
        .layer(from_fn(check_shape))
        .layer(from_fn_with_state(Arc::clone(&api.tokens), guard))
        .layer(from_fn(finish))
        .with_state(api)
}

async fn no_such_call(request: Request) -> Refusal {
    Refusal::new(ErrorCode::NotFound, format!("there is no call {}", request.uri().path()))
        .hint("GET /v1/openapi.json describes every call")
}

async fn no_such_method(request: Request) -> Refusal {
    Refusal::new(
        ErrorCode::MethodNotAllowed,
        format!("{} does not support the method {}", request.uri().path(), request.method()),
    )
    .hint("the Allow header lists the methods that it supports")
}

/// Rejects bodies that are not JSON and query parameters that the call does not have.
async fn check_shape(request: Request, next: Next) -> Response {
    match shape(&request) {
        Ok(()) => next.run(request).await,
        Err(refusal) => refusal.into_response(),
    }
}

fn shape(request: &Request) -> Result<(), Refusal> {
    let path = request.extensions().get::<MatchedPath>().map(MatchedPath::as_str).unwrap_or_default();
    let call = ApiCall::find(request.method().as_str(), path);
    if !request.body().is_end_stream() {
        let media_type = media_type(request.headers());
        let takes_lines = call.is_some_and(|call| matches!(call.request, RequestBody::RequiredOrLines(_)));
        if media_type != "application/json" && !(takes_lines && media_type == LINES) {
            return Err(Refusal::new(ErrorCode::UnsupportedMediaType, "the body must be application/json")
                .hint("send 'Content-Type: application/json'"));
        }
    }
    match call {
        Some(call) => QueryParams::of(request.uri())?.check(&call.query()),
        // The fallbacks answer.
        None => Ok(()),
    }
}

/// Forbids caching of the answer, and logs the call: its route, never its query, body or token.
async fn finish(request: Request, next: Next) -> Response {
    let begin = Instant::now();
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().cloned();
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    // No page of another origin can embed an answer, not even as a picture.
    headers.insert(RESOURCE_POLICY, HeaderValue::from_static("same-origin"));
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    tracing::debug!(%method, route, status = response.status().as_u16(), elapsed = ?begin.elapsed(), "answered");
    response
}
