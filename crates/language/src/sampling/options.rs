use std::collections::BTreeMap;

use super::error::SamplingError;

/// Most entries of a logit bias, as in OpenAI's API.
pub const MAX_BIASES: usize = 300;

/// How a token is chosen. The default takes the most likely one.
#[derive(Clone, Debug, PartialEq)]
pub struct SamplingOptions {
    /// Divides the logits, from 0 to 2. 0 takes the most likely token. Default 0.
    pub temperature: f32,
    /// Only the `top_k` most likely tokens; 0 is no limit. Default 0.
    pub top_k: usize,
    /// Only the most likely tokens that together have at least this probability, above 0 to 1.
    /// Default 1.
    pub top_p: f32,
    /// Only tokens of at least this share of the largest probability, from 0 to 1. Default 0.
    pub min_p: f32,
    /// Divides positive logits of tokens seen before and multiplies negative ones, above 0 to 10.
    /// Default 1. As in Hugging Face's transformers; the prompt counts.
    pub repetition_penalty: f32,
    /// Subtracted for each occurrence in the generated text, from -2 to 2. Default 0. As in
    /// OpenAI's API.
    pub frequency_penalty: f32,
    /// Subtracted once from tokens in the generated text, from -2 to 2. Default 0. As in OpenAI's
    /// API.
    pub presence_penalty: f32,
    /// Added to logits of tokens, each from -100 to 100. -100 bans a token, as in OpenAI's API.
    pub logit_bias: BTreeMap<u32, f32>,
    /// Starts the random numbers. The same seed gives the same tokens from the same logits.
    pub seed: u64,
}

impl Default for SamplingOptions {
    fn default() -> Self {
        Self {
            temperature: 0.0,
            top_k: 0,
            top_p: 1.0,
            min_p: 0.0,
            repetition_penalty: 1.0,
            frequency_penalty: 0.0,
            presence_penalty: 0.0,
            logit_bias: BTreeMap::new(),
            seed: 0,
        }
    }
}

impl SamplingOptions {
    /// Checks all ranges.
    ///
    /// # Errors
    /// [`SamplingError::OutOfRange`] with the first field that is out of its range.
    pub fn check(&self) -> Result<(), SamplingError> {
        let within = |field, value: f32, from: f32, to: f32, range| {
            let is_within = (from..=to).contains(&value);
            is_within.then_some(()).ok_or_else(|| out_of_range(field, value.to_string(), range))
        };
        let positive = f32::MIN_POSITIVE;
        within("temperature", self.temperature, 0.0, 2.0, "from 0 to 2")?;
        within("top_p", self.top_p, positive, 1.0, "above 0 to 1")?;
        within("min_p", self.min_p, 0.0, 1.0, "from 0 to 1")?;
        let repetition = self.repetition_penalty;
        within("repetition_penalty", repetition, positive, 10.0, "above 0 to 10")?;
        within("frequency_penalty", self.frequency_penalty, -2.0, 2.0, "from -2 to 2")?;
        within("presence_penalty", self.presence_penalty, -2.0, 2.0, "from -2 to 2")?;
        if self.logit_bias.len() > MAX_BIASES {
            let count = format!("a map of {}", self.logit_bias.len());
            return Err(out_of_range("logit_bias", count, "a map of at most 300"));
        }
        self.logit_bias.values().try_for_each(|bias| {
            within("logit_bias", *bias, -100.0, 100.0, "from -100 to 100 for each token")
        })
    }
}

fn out_of_range(field: &'static str, value: String, range: &'static str) -> SamplingError {
    SamplingError::OutOfRange { field, value, range }
}
