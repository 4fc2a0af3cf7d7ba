use super::head::{enter, seed, stream_head};
use crate::answer::{Answer, ChatFormat, collect_chat, sse};
use crate::error::ApiError;
use crate::models::ChatPrompt;
use crate::openai::JsonBody;
use crate::openai::request::{ChatParts, ChatRequest};
use crate::state::AppState;
use actix_web::{HttpRequest, HttpResponse, web};
use lmx_actors::cell::WorkerEgress;
use std::sync::Arc;
use std::time::Instant;

const ROUTE: &str = "/v1/chat/completions";

/// `POST /v1/chat/completions`.
pub(super) async fn completions(
    state: web::Data<Arc<AppState>>,
    egress: web::Data<WorkerEgress>,
    req: HttpRequest,
    JsonBody(body): JsonBody<ChatRequest>,
) -> Result<HttpResponse, ApiError> {
    let time_limit = state.config.server.request_timeout();
    let deadline = Instant::now() + time_limit;
    let model = state.models.find(body.model())?;
    let ChatParts { template, thinking, mut params, mut generation } = body.into_parts(&model.preset().defaults)?;
    let ChatPrompt { ids: prompt, parse } = model.chat_prompt(template).await?;
    params.thinking = model.thinking_limit(thinking, &parse)?;
    generation.parse = parse;
    let prompt_tokens = prompt.len();
    let stream = model.open(&egress, prompt, &params, &generation, seed(&generation), deadline)?;

    let head = stream_head("chatcmpl", &model, &generation);
    let mut guard = enter(&state, &req, ROUTE, &head, &model, &[stream.request()]);
    let answer = Answer::new(vec![(stream, prompt_tokens)], generation.n as usize, time_limit);
    let logprobs = params.logprobs.is_some();
    if generation.stream {
        let format = ChatFormat::new(head, answer.num_choices(), logprobs, model.token_text());
        return Ok(sse(answer, format, state.config.server.keepalive(), guard));
    }
    let answer = collect_chat(answer, head, logprobs, &model.token_text(), &mut guard).await?;
    Ok(HttpResponse::Ok().json(answer))
}
