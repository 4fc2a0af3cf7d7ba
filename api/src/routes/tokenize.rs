use crate::error::ApiError;
use crate::openai::JsonBody;
use crate::openai::request::{DetokenizeRequest, Prompt, RequestDefaults, TokenizeRequest, TokenizeText};
use crate::openai::response::{DetokenizeResponse, TokenizeResponse};
use crate::state::AppState;
use actix_web::web;
use std::sync::Arc;

/// `POST /tokenize`: the ids of a text or of a chat, as many as `usage.prompt_tokens` would count.
pub(super) async fn tokenize(
    state: web::Data<Arc<AppState>>,
    JsonBody(body): JsonBody<TokenizeRequest>,
) -> Result<web::Json<TokenizeResponse>, ApiError> {
    let with_text = body.return_token_strs();
    if let Some(model) = body.model().and_then(|name| state.encoders.loaded(name)) {
        let TokenizeText::Prompt { text, add_special_tokens } = body.into_text(&RequestDefaults::default())? else {
            return Err(ApiError::invalid("messages", format!("`{}` knows no chats", model.id())));
        };
        let ids = model.tokenize(text, add_special_tokens).await?;
        let texts = with_text.then(|| ids.iter().map(|&id| model.token_name(id)).collect());
        return Ok(web::Json(TokenizeResponse::new(ids, model.max_tokens(), texts)));
    }
    let model = state.models.find(body.model())?;
    let ids = match body.into_text(&model.preset().defaults)? {
        TokenizeText::Prompt { text, .. } if text.is_empty() => Vec::new(),
        TokenizeText::Prompt { text, add_special_tokens } => {
            model.prompt(Prompt::Text(text), add_special_tokens).await?
        }
        TokenizeText::Chat(input) => model.chat_prompt(input).await?.ids,
    };
    let tokenizer = model.cell().tokenizer();
    let texts = with_text.then(|| ids.iter().map(|&id| tokenizer.id_to_token(id).unwrap_or_default()).collect());
    Ok(web::Json(TokenizeResponse::new(ids, model.context_tokens(), texts)))
}

/// `POST /detokenize`: the text of token ids, special tokens included.
pub(super) async fn detokenize(
    state: web::Data<Arc<AppState>>,
    JsonBody(body): JsonBody<DetokenizeRequest>,
) -> Result<web::Json<DetokenizeResponse>, ApiError> {
    if let Some(model) = body.model.as_deref().and_then(|name| state.encoders.loaded(name)) {
        return Ok(web::Json(DetokenizeResponse { prompt: model.detokenize(&body.tokens)? }));
    }
    let model = state.models.find(body.model.as_deref())?;
    if body.tokens.is_empty() {
        return Ok(web::Json(DetokenizeResponse { prompt: String::new() }));
    }
    let ids = model.prompt(Prompt::Ids(body.tokens), false).await?;
    let prompt = model.cell().tokenizer().decode(&ids, false);
    let prompt = prompt.map_err(|error| ApiError::invalid("tokens", error.to_string()))?;
    Ok(web::Json(DetokenizeResponse { prompt }))
}
