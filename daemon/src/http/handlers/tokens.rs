//! `/v1/tokens`: tokens for callers over TCP.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use chat_proto::api::tokens::{NewToken, TokenList, TokenRequest};

use crate::http::access_tokens::{AccessTokens, TokenError};
use crate::http::api_state::Api;
use crate::http::extract::{JsonBody, PathSegment};
use crate::http::problem::Refusal;

/// Every token, without its secret.
pub(crate) async fn list(State(api): State<Arc<Api>>) -> Json<TokenList> {
    Json(TokenList { tokens: api.tokens.list() })
}

/// Makes a token and shows its secret, only this once.
pub(crate) async fn create(
    State(api): State<Arc<Api>>,
    JsonBody(request): JsonBody<TokenRequest>,
) -> Result<(StatusCode, Json<NewToken>), Refusal> {
    Ok((StatusCode::CREATED, Json(change(&api, move |tokens| tokens.create(request)).await?)))
}

/// Gives a token a new secret.
pub(crate) async fn rotate(
    State(api): State<Arc<Api>>,
    PathSegment(name): PathSegment,
) -> Result<Json<NewToken>, Refusal> {
    change(&api, move |tokens| tokens.rotate(&name)).await.map(Json)
}

/// Revokes a token.
pub(crate) async fn revoke(State(api): State<Arc<Api>>, PathSegment(name): PathSegment) -> Result<StatusCode, Refusal> {
    change(&api, move |tokens| tokens.revoke(&name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Changes wait for the disk, which other calls must not wait for.
pub(crate) async fn change<T: Send + 'static>(
    api: &Api,
    change: impl FnOnce(&AccessTokens) -> Result<T, TokenError> + Send + 'static,
) -> Result<T, Refusal> {
    let tokens = Arc::clone(&api.tokens);
    match tokio::task::spawn_blocking(move || change(&tokens)).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(Refusal::internal(&error)),
    }
}
