use super::head::{enter, seed, stream_head};
use crate::answer::{Answer, CompletionFormat, Echo, collect_completion, sse};
use crate::error::ApiError;
use crate::models::LoadedModel;
use crate::openai::JsonBody;
use crate::openai::request::{CompletionParts, CompletionRequest, Prompt};
use crate::state::AppState;
use actix_web::{HttpRequest, HttpResponse, web};
use lmx_actors::cell::WorkerEgress;
use std::sync::Arc;
use std::time::Instant;

const ROUTE: &str = "/v1/completions";

/// `POST /v1/completions`.
pub(super) async fn completions(
    state: web::Data<Arc<AppState>>,
    egress: web::Data<WorkerEgress>,
    req: HttpRequest,
    JsonBody(body): JsonBody<CompletionRequest>,
) -> Result<HttpResponse, ApiError> {
    let time_limit = state.config.server.request_timeout();
    let deadline = Instant::now() + time_limit;
    let model = state.models.find(body.model())?;
    let CompletionParts { prompts, echo, add_special_tokens, params, generation } =
        body.into_parts(&model.preset().defaults)?;
    let (mut tokenised, mut echoes) = (Vec::with_capacity(prompts.len()), Vec::new());
    for prompt in prompts {
        let ids = model.prompt(prompt.clone(), add_special_tokens).await?;
        if echo {
            echoes.push(repeated(&model, prompt, &ids)?);
        }
        tokenised.push(ids);
    }
    let seed = seed(&generation);
    let mut streams = Vec::with_capacity(tokenised.len());
    for (number, ids) in (0u64..).zip(tokenised) {
        let prompt_tokens = ids.len();
        // Each prompt has a generator of its own, as its choices have.
        let seed = seed.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        let stream = model.open(&egress, ids, &params, &generation, seed, deadline)?;
        streams.push((stream, prompt_tokens));
    }

    let head = stream_head("cmpl", &model, &generation);
    let requests: Vec<_> = streams.iter().map(|(stream, _)| stream.request()).collect();
    let mut guard = enter(&state, &req, ROUTE, &head, &model, &requests);
    let answer = Answer::new(streams, generation.n as usize, time_limit);
    let format = CompletionFormat::new(head.clone(), &answer, params.logprobs.is_some(), model.token_text())
        .with_echo(echoes, generation.max_tokens == Some(0));
    if generation.stream {
        return Ok(sse(answer, format, state.config.server.keepalive(), guard));
    }
    Ok(HttpResponse::Ok().json(collect_completion(answer, head, format, &mut guard).await?))
}

fn repeated(model: &LoadedModel, prompt: Prompt, ids: &[u32]) -> Result<Echo, ApiError> {
    let text = match prompt {
        Prompt::Text(text) => text,
        Prompt::Ids(ids) => {
            let text = model.cell().tokenizer().decode(&ids, true);
            text.map_err(|error| ApiError::invalid("prompt", error.to_string()))?
        }
    };
    Ok(Echo { text, first_token: ids[0] })
}
