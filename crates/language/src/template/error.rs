/// Why a conversation cannot be written as a prompt.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TemplateError {
    /// The model has no chat template: it was not trained for conversations. Text can be completed.
    #[error("the model has no chat template{0}")]
    Missing(String),
    /// The template is not valid, or needs what is not supported.
    #[error("the chat template cannot be used: {0}")]
    Invalid(String),
    /// The template refuses the conversation, by `raise_exception`.
    #[error("the chat template refuses the conversation: {0}")]
    Refused(String),
    /// The template needs too much work, recursion or text.
    #[error("the chat template exceeds {what} of {limit}")]
    TooMuch {
        /// What is limited.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
    /// The conversation or the file is malformed.
    #[error("{what} cannot be read: {reason}")]
    Unread {
        /// What is malformed.
        what: &'static str,
        /// Why.
        reason: String,
    },
}
