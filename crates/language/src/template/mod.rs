//! Conversations to prompts, by a model's chat template.
//!
//! Templates are written in Jinja and rendered as Hugging Face's transformers does:
//! <https://huggingface.co/docs/transformers/chat_templating>. They come with a model and are not
//! trusted: work, recursion and output are limited. The size of texts inside of a template is not:
//! one that doubles a text again and again ends in running out of memory.

mod chat;
mod clock;
mod error;
mod file;
mod jinja;
mod python;
mod tag;

pub use chat::{Chat, Message};
pub use error::TemplateError;
pub use jinja::{
    ChatTemplate, MAX_INSTRUCTIONS, MAX_PROMPT_BYTES, MAX_RECURSION, MAX_TEMPLATE_BYTES,
};
