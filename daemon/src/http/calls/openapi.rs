//! `GET /v1/openapi.json`: the OpenAPI 3.1 document of the API.
//!
//! The paths come from the [table of calls](crate::http::calls), the schemas from the types in `chat_proto` and their doc
//! comments: nothing is described by hand a second time. Requests and answers are described apart, because a field that
//! has a default may be absent from a request but is always in an answer; a type that occurs in both must look the same.
//! The document is built anew for each request: it is read rarely and takes about a millisecond.

use std::collections::BTreeSet;

use chat_proto::error::{ErrorCode, Problem};
use chat_proto::event::EventEnvelope;
use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::http::calls::{
    ApiCall, BodyType, CALLS, CallAccess, Parameter, ParameterIn, ParameterShape, RequestBody, ResponseBody,
    SuccessResponse,
};
use crate::http::extract::LINES;

/// Error codes that every call may answer with.
const CODES_OF_ALL: [ErrorCode; 12] = [
    ErrorCode::BadRequest,
    ErrorCode::Unauthorized,
    ErrorCode::Forbidden,
    ErrorCode::NotFound,
    ErrorCode::NotInRoom,
    ErrorCode::TooLong,
    ErrorCode::UnsupportedMediaType,
    ErrorCode::Busy,
    ErrorCode::Internal,
    ErrorCode::Starting,
    ErrorCode::Joining,
    ErrorCode::ShuttingDown,
];

/// Collects the schemas of the bodies while the paths are described.
struct Schemas {
    requests: SchemaGenerator,
    answers: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings =
            || SchemaSettings::draft2020_12().with(|with| with.definitions_path = "/components/schemas".into());
        let requests = settings().for_deserialize().into_generator();
        Self { requests, answers: settings().for_serialize().into_generator() }
    }

    fn request(&mut self, body: BodyType) -> Value {
        (body.schema)(&mut self.requests).into()
    }

    fn answer(&mut self, body: BodyType) -> Value {
        (body.schema)(&mut self.answers).into()
    }

    fn into_definitions(mut self) -> Map<String, Value> {
        let mut all = self.requests.take_definitions(true);
        all.values_mut().for_each(forbid_null);
        for (name, schema) in self.answers.take_definitions(true) {
            let known = all.insert(name.clone(), schema.clone());
            debug_assert!(known.is_none_or(|known| known == schema), "{name} differs between requests and answers");
        }
        all
    }
}

/// A field of a request is left out rather than null: the check of bodies rejects null.
fn forbid_null(schema: &mut Value) {
    let Some(fields) = schema.get_mut("properties").and_then(Value::as_object_mut) else { return };
    for types in fields.values_mut().filter_map(|field| field.get_mut("type")) {
        if let Some([kind, null]) = types.as_array().map(Vec::as_slice)
            && null == "null"
        {
            *types = kind.clone();
        }
    }
}

/// The document.
pub(crate) fn document() -> Value {
    let (mut paths, mut schemas) = (Map::new(), Schemas::new());
    for call in CALLS {
        let path = paths.entry(call.path).or_insert_with(|| Value::Object(Map::new()));
        path[call.method.as_str().to_ascii_lowercase()] = operation(call, &mut schemas);
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "chatd",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "The local API of one daemon. The Unix socket accepts its user without a token; over TCP every call \
                except GET /healthz needs one, whose scope is named with the call. Every error is a problem document (RFC 9457): match its `code`. Answers \
                may gain fields in later versions.",
        },
        "servers": [{"url": "http://127.0.0.1:24284"}],
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": schemas.into_definitions(),
        },
    })
}

fn operation(call: &ApiCall, schemas: &mut Schemas) -> Value {
    let mut operation = json!({
        "operationId": operation_id(call),
        "summary": call.about,
        "responses": responses(call, schemas),
    });
    if !call.parameters.is_empty() {
        operation["parameters"] = call.parameters.iter().map(parameter).collect();
    }
    let body = match call.request {
        RequestBody::Nothing => None,
        RequestBody::Required(body) | RequestBody::RequiredOrLines(body) => Some((body, true)),
        RequestBody::Optional(body) => Some((body, false)),
    };
    if let Some((body, required)) = body {
        let mut content = json!({"application/json": {"schema": schemas.request(body)}});
        if matches!(call.request, RequestBody::RequiredOrLines(_)) {
            content[LINES] = json!({"schema": schemas.request(body)});
        }
        operation["requestBody"] = json!({"required": required, "content": content});
    }
    operation["security"] = match call.access() {
        CallAccess::Open | CallAccess::OwnPage => json!([]),
        CallAccess::Scope(scope) => json!([{"token": [scope]}]),
    };
    operation
}

/// `get_v1_messages_id` for `GET /v1/messages/{id}`.
fn operation_id(call: &ApiCall) -> String {
    let words = call.path.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let method = call.method.as_str().to_ascii_lowercase();
    std::iter::once(method.as_str()).chain(words).collect::<Vec<_>>().join("_")
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

fn responses(call: &ApiCall, schemas: &mut Schemas) -> Value {
    let mut responses = Map::new();
    for answer in call.answers {
        responses.insert(answer.status.to_string(), response(answer, schemas));
    }
    let codes: Vec<ErrorCode> = CODES_OF_ALL.iter().chain(call.codes).copied().collect();
    for status in codes.iter().map(|code| code.status()).collect::<BTreeSet<u16>>() {
        let names: Vec<String> = codes.iter().filter(|code| code.status() == status).map(name).collect();
        let content = json!({"application/problem+json": {"schema": schemas.answer(BodyType::of::<Problem>())}});
        let description = format!("Error: `{}`.", names.join("`, `"));
        responses.insert(status.to_string(), json!({"description": description, "content": content}));
    }
    Value::Object(responses)
}

fn response(answer: &SuccessResponse, schemas: &mut Schemas) -> Value {
    let content = match answer.body {
        ResponseBody::Nothing => None,
        ResponseBody::Json(body) => Some(json!({"application/json": {"schema": schemas.answer(body)}})),
        ResponseBody::JsonOrLines(body, line) => Some(json!({
            "application/json": {"schema": schemas.answer(body)},
            LINES: {"schema": schemas.answer(line)},
        })),
        ResponseBody::AnyJson => Some(json!({"application/json": {"schema": {"type": "object"}}})),
        ResponseBody::Text(media_type) => Some(json!({media_type: {"schema": {"type": "string"}}})),
        ResponseBody::Events => Some(json!({
            "text/event-stream": {"schema": {
                "type": "string",
                "description": "The first block has only an `id`: the cursor at which the stream starts. In every other block \
                    `event` is the type, `id` the cursor and `data` an EventEnvelope. After 15 s of silence a comment \
                    is sent.",
            }},
            LINES: {"schema": schemas.answer(BodyType::of::<EventEnvelope>())},
        })),
    };
    match content {
        Some(content) => json!({"description": answer.about, "content": content}),
        None => json!({"description": answer.about}),
    }
}

/// The code as in a problem document.
fn name(code: &ErrorCode) -> String {
    let problem = serde_json::to_value(Problem::new(*code, "")).unwrap_or_default();
    problem["code"].as_str().unwrap_or_default().to_owned()
}
