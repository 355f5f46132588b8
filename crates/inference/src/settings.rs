//! What a model's own files say of how a text's tokens become one vector, as
//! [sentence-transformers](https://sbert.net/docs/package_reference/sentence_transformer/models.html) lays them out.

use serde::Deserialize;

/// Tokens of a text at the most where no file says it: what BERT has positions for.
const POSITIONS: usize = 512;

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// Their mean.
    Mean,
    /// Their sum by the square root of their number.
    MeanSqrt,
    /// The first.
    First,
    /// The largest in each dimension.
    Max,
}

/// See the [module](self).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How vectors of tokens become one.
    pub pooling: Pooling,
    /// Whether that is made of length 1.
    pub normalize: bool,
    /// Tokens of a text at the most, with those that the tokenizer adds.
    pub max_tokens: usize,
}

/// A file that asks for what is not done here, or that cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {reason}")]
pub struct SettingsError {
    file: &'static str,
    reason: String,
}

const CONFIG: &str = "config.json";
const SENTENCE: &str = "sentence_bert_config.json";
const MODULES: &str = "modules.json";
const POOLING: &str = "1_Pooling/config.json";

#[derive(Deserialize, Default)]
struct Config {
    max_position_embeddings: Option<usize>,
}

#[derive(Deserialize, Default)]
struct Sentence {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct Module {
    #[serde(rename = "type")]
    kind: String,
}

impl Settings {
    /// The files that are asked for. None of them has to be there.
    pub const FILES: [&'static str; 4] = [CONFIG, SENTENCE, MODULES, POOLING];

    /// Reads them; `file` gives their bytes. Where none says otherwise, a text's vector is the mean of its tokens', of length 1.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn read<'a>(file: impl Fn(&str) -> Option<&'a [u8]>) -> Result<Self, SettingsError> {
        let config: Config = read(&file, CONFIG)?.unwrap_or_default();
        let sentence: Sentence = read(&file, SENTENCE)?.unwrap_or_default();
        let modules: Option<Vec<Module>> = read(&file, MODULES)?;
        let pooling = read::<serde_json::Map<String, serde_json::Value>>(&file, POOLING)?;
        let positions = config.max_position_embeddings.unwrap_or(POSITIONS);
        let max_tokens = sentence.max_seq_length.unwrap_or(positions).min(positions);
        if max_tokens < 3 {
            return Err(SettingsError {
                file: SENTENCE,
                reason: format!("texts of {max_tokens} tokens have no word in them"),
            });
        }
        let mut normalize = modules.is_none();
        for module in modules.iter().flatten() {
            match module.kind.rsplit('.').next().unwrap_or_default() {
                "Transformer" | "Pooling" => {}
                "Normalize" => normalize = true,
                other => {
                    return Err(SettingsError {
                        file: MODULES,
                        reason: format!("{other:?} is not done here"),
                    });
                }
            }
        }
        let pooling = pooling.map_or(Ok(Pooling::Mean), |said| pooling_of(&said))?;
        Ok(Self { pooling, normalize, max_tokens })
    }
}

fn read<'a, T: serde::de::DeserializeOwned>(
    file: impl Fn(&str) -> Option<&'a [u8]>,
    name: &'static str,
) -> Result<Option<T>, SettingsError> {
    let parse = |bytes| {
        serde_json::from_slice(bytes)
            .map_err(|error| SettingsError { file: name, reason: error.to_string() })
    };
    file(name).map(parse).transpose()
}

/// What `1_Pooling/config.json` says: `pooling_mode_mean_tokens` and the like, or `pooling_mode`.
fn pooling_of(said: &serde_json::Map<String, serde_json::Value>) -> Result<Pooling, SettingsError> {
    let modes: Vec<&str> =
        if let Some(mode) = said.get("pooling_mode").and_then(|mode| mode.as_str()) {
            vec![mode]
        } else {
            let set = said.iter().filter(|(_, value)| **value == serde_json::Value::Bool(true));
            set.filter_map(|(name, _)| name.strip_prefix("pooling_mode_")).collect()
        };
    match *modes {
        ["mean" | "mean_tokens"] => Ok(Pooling::Mean),
        ["mean_sqrt_len_tokens"] => Ok(Pooling::MeanSqrt),
        ["cls" | "cls_token"] => Ok(Pooling::First),
        ["max" | "max_tokens"] => Ok(Pooling::Max),
        _ => Err(SettingsError {
            file: POOLING,
            reason: format!("{modes:?} is not done here; mean, mean_sqrt_len, cls and max are"),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(files: &[(&str, &str)]) -> Result<Settings, String> {
        let file =
            |name: &str| files.iter().find(|(of, _)| *of == name).map(|(_, text)| text.as_bytes());
        Settings::read(file).map_err(|error| error.to_string())
    }

    #[test]
    fn files_of_sentence_transformers_are_followed() {
        let modules = r#"[{"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
            {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}]"#;
        let cls = r#"{"word_embedding_dimension":384,"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#;
        let files = [
            (CONFIG, r#"{"max_position_embeddings":512,"model_type":"bert"}"#),
            (SENTENCE, r#"{"max_seq_length":256,"do_lower_case":false}"#),
            (MODULES, modules),
            (POOLING, cls),
        ];
        assert_eq!(
            settings(&files),
            Ok(Settings { pooling: Pooling::First, normalize: false, max_tokens: 256 })
        );
        assert_eq!(
            settings(&[]),
            Ok(Settings { pooling: Pooling::Mean, normalize: true, max_tokens: 512 })
        );
        assert_eq!(
            settings(&[(POOLING, r#"{"pooling_mode":"max"}"#)]).map(|settings| settings.pooling),
            Ok(Pooling::Max)
        );
    }

    #[test]
    fn what_is_not_done_is_named() {
        let dense = r#"[{"type":"sentence_transformers.models.Dense"}]"#;
        assert_eq!(
            settings(&[(MODULES, dense)]),
            Err(r#"modules.json: "Dense" is not done here"#.to_owned())
        );
        assert!(
            settings(&[(POOLING, r#"{"pooling_mode_lasttoken":true}"#)])
                .is_err_and(|error| error.contains("lasttoken"))
        );
        assert!(
            settings(&[(CONFIG, "{")]).is_err_and(|error| error.starts_with("config.json: EOF"))
        );
        assert!(settings(&[(SENTENCE, r#"{"max_seq_length":2}"#)]).is_err());
    }
}
