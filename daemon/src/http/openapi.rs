//! `GET /v1/openapi.json`: the API in words that machines read (OpenAPI 3.1), built from the table of calls.

use std::collections::BTreeSet;

use chat_proto::error::{ErrorCode, Problem};
use serde_json::{Map, Value, json};

use crate::http::calls::{
    ApiCall, CALLS, Parameter, ParameterIn, ParameterShape, RequestBody, ResponseBody, SuccessResponse,
};

mod schemas;

/// Codes that any call may answer with.
const CODES_OF_ALL: [ErrorCode; 10] = [
    ErrorCode::BadRequest,
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::NotFound,
    ErrorCode::NotInRoom,
    ErrorCode::TooLong,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::Busy,
    ErrorCode::Internal,
    ErrorCode::ShuttingDown,
];

/// The whole description.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for call in CALLS {
        let path = paths.entry(call.path).or_insert_with(|| Value::Object(Map::new()));
        path[call.verb.as_str().to_ascii_lowercase()] = operation(call);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "chatd",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "The local API of one daemon. Over its Unix socket the same user needs no token; over TCP every \
                call but GET /healthz needs one. Every refusal is a problem document (RFC 9457): match its `code`.",
        },
        "servers": [{"url": "http://127.0.0.1:24284"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas::all(),
        },
    })
}

fn operation(call: &ApiCall) -> Value {
    let mut operation = json!({
        "operationId": operation_id(call),
        "summary": call.about,
        "responses": responses(call),
    });
    if !call.parameters.is_empty() {
        operation["parameters"] = call.parameters.iter().map(parameter).collect();
    }
    let (schema, required) = match call.takes {
        RequestBody::Nothing => (None, false),
        RequestBody::Body(schema) => (Some(schema), true),
        RequestBody::BodyOrNothing(schema) => (Some(schema), false),
    };
    if let Some(schema) = schema {
        let content = json!({"application/json": {"schema": reference(schema)}});
        operation["requestBody"] = json!({"required": required, "content": content});
    }
    if call.path == "/healthz" {
        operation["security"] = json!([]);
    }
    operation
}

/// `get_v1_messages_id` for `GET /v1/messages/{id}`.
fn operation_id(call: &ApiCall) -> String {
    let words = call.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let verb = call.verb.as_str().to_ascii_lowercase();
    std::iter::once(verb.as_str()).chain(words).collect::<Vec<_>>().join("_")
}

fn parameter(parameter: &Parameter) -> Value {
    let place = match parameter.place {
        ParameterIn::Path => "path",
        ParameterIn::Query => "query",
        ParameterIn::Header => "header",
    };
    let schema = match parameter.shape {
        ParameterShape::Text => json!({"type": "string", "minLength": 1}),
        ParameterShape::Number(min, max) => json!({"type": "integer", "minimum": min, "maximum": max}),
    };
    json!({
        "name": parameter.name,
        "in": place,
        "required": parameter.place == ParameterIn::Path,
        "description": parameter.about,
        "schema": schema,
    })
}

fn responses(call: &ApiCall) -> Value {
    let mut responses = Map::new();
    for answer in call.answers {
        responses.insert(answer.status.to_string(), response(answer));
    }
    let codes: Vec<ErrorCode> = CODES_OF_ALL.iter().chain(call.codes).copied().collect();
    for status in codes.iter().map(|code| code.status()).collect::<BTreeSet<u16>>() {
        let names: Vec<String> = codes.iter().filter(|code| code.status() == status).map(name).collect();
        let content = json!({"application/problem+json": {"schema": reference("Problem")}});
        let description = format!("Refused: `{}`.", names.join("`, `"));
        responses.insert(status.to_string(), json!({"description": description, "content": content}));
    }
    Value::Object(responses)
}

fn response(answer: &SuccessResponse) -> Value {
    let content = match answer.holds {
        ResponseBody::Nothing => None,
        ResponseBody::Json(schema) => Some(json!({"application/json": {"schema": reference(schema)}})),
        ResponseBody::AnyJson => Some(json!({"application/json": {"schema": {"type": "object"}}})),
        ResponseBody::Text(media_type) => Some(json!({media_type: {"schema": {"type": "string"}}})),
        ResponseBody::Events => Some(json!({
            "text/event-stream": {"schema": {
                "type": "string",
                "description": "The first block has an `id` alone: the place where the stream begins. In every further \
                    one, `event` is the type, `id` the cursor, `data` an EventEnvelope. A comment comes every 15 s.",
            }},
            "application/x-ndjson": {"schema": reference("EventEnvelope")},
        })),
    };
    match content {
        Some(content) => json!({"description": answer.about, "content": content}),
        None => json!({"description": answer.about}),
    }
}

fn reference(schema: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{schema}")})
}

/// The code as a problem document has it.
fn name(code: &ErrorCode) -> String {
    let problem = serde_json::to_value(Problem::new(*code, "")).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}
