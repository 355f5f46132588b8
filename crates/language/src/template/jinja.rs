use std::io;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};

use super::chat::Chat;
use super::error::TemplateError;
use super::{clock, python, tag};

/// Most bytes of a template.
pub const MAX_TEMPLATE_BYTES: usize = 256 * 1024;

/// Most bytes of a prompt.
pub const MAX_PROMPT_BYTES: usize = 16 * 1024 * 1024;

/// Most instructions for a prompt. A message takes some hundred.
pub const MAX_INSTRUCTIONS: u64 = 4_000_000;

/// Most nested calls of macros.
pub const MAX_RECURSION: usize = 64;

/// A chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    tokens: Vec<(String, String)>,
}

const NAME: &str = "chat_template";

impl ChatTemplate {
    /// # Errors
    /// [`TemplateError::Invalid`], [`TemplateError::TooMuch`].
    pub fn new(source: &str) -> Result<Self, TemplateError> {
        if source.len() > MAX_TEMPLATE_BYTES {
            let limit = MAX_TEMPLATE_BYTES as u64;
            return Err(TemplateError::TooMuch { what: "the bytes of a template", limit });
        }
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
        environment.set_syntax(syntax.map_err(invalid)?);
        environment.set_fuel(Some(MAX_INSTRUCTIONS));
        environment.set_recursion_limit(MAX_RECURSION);
        environment.set_unknown_method_callback(python::method);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_formatter(|out, state, value| match python::as_text(value) {
            Some(text) => out.write_str(&text).map_err(Error::from),
            None => minijinja::escape_formatter(out, state, value),
        });
        environment.add_test("iterable", python::is_iterable);
        environment.add_filter("tojson", python::tojson);
        environment.add_function("raise_exception", raise);
        environment.add_template_owned(NAME, tag::without_generation(source)).map_err(invalid)?;
        Ok(Self { environment, tokens: Vec::new() })
    }

    /// Sets the text of a special token: `bos_token`, `eos_token` and so on.
    #[must_use]
    pub fn with_token(mut self, name: &str, text: &str) -> Self {
        self.tokens.push((name.to_owned(), text.to_owned()));
        self
    }

    /// The prompt of a conversation. It has special tokens written out, so it is encoded with
    /// [`SpecialText::Parsed`](crate::tokenizer::SpecialText) and without ends.
    ///
    /// # Errors
    /// [`TemplateError::Refused`], [`TemplateError::TooMuch`], [`TemplateError::Invalid`].
    pub fn render(&self, chat: &Chat) -> Result<String, TemplateError> {
        let mut context: Vec<(String, Value)> = vec![
            ("messages".to_owned(), chat.messages.clone()),
            ("tools".to_owned(), chat.tools.clone()),
            ("documents".to_owned(), Value::from(())),
            ("add_generation_prompt".to_owned(), chat.generates.into()),
        ];
        let tokens = self.tokens.iter().map(|(name, text)| (name.clone(), text.as_str().into()));
        context.extend(tokens);
        context.extend(chat.variables.iter().cloned());
        if let Some(now) = chat.now {
            let strftime = move |format: &str| {
                clock::strftime(format, now).ok_or_else(|| {
                    let text = format!("strftime_now does not know the format {format:?}");
                    Error::new(ErrorKind::InvalidOperation, text)
                })
            };
            context.push(("strftime_now".to_owned(), Value::from_function(strftime)));
        }
        let context = Value::from_pairs(context);
        let template = self.environment.get_template(NAME).map_err(invalid)?;
        let mut prompt = Bounded(Vec::new());
        template.render_captured_to(context, &mut prompt).map_err(|error| explain(&error))?;
        String::from_utf8(prompt.0).map_err(|error| TemplateError::Invalid(error.to_string()))
    }
}

/// Output of at most [`MAX_PROMPT_BYTES`].
struct Bounded(Vec<u8>);

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > MAX_PROMPT_BYTES - self.0.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The message of `raise_exception`.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Raised(String);

fn raise(message: String) -> Result<Value, Error> {
    Err(Error::new(ErrorKind::InvalidOperation, "raised").with_source(Raised(message)))
}

#[allow(clippy::needless_pass_by_value, reason = "passed to map_err")]
fn invalid(error: Error) -> TemplateError {
    explain(&error)
}

/// The error of ours that a chain of errors stems from.
fn explain(error: &Error) -> TemplateError {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = source {
        if let Some(Raised(message)) = inner.downcast_ref() {
            return TemplateError::Refused(message.clone());
        }
        if let Some(error) = inner.downcast_ref::<Error>() {
            match error.kind() {
                ErrorKind::OutOfFuel => {
                    let what = "the instructions for a prompt";
                    return TemplateError::TooMuch { what, limit: MAX_INSTRUCTIONS };
                }
                ErrorKind::WriteFailure => {
                    let what = "the bytes of a prompt";
                    return TemplateError::TooMuch { what, limit: MAX_PROMPT_BYTES as u64 };
                }
                _ => {}
            }
        }
        source = inner.source();
    }
    TemplateError::Invalid(error.to_string())
}
