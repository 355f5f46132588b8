//! Pooling, normalization and length limit of a model, from its own files in the layout of
//! [sentence-transformers](https://sbert.net/docs/package_reference/sentence_transformer/models.html).

use serde::Deserialize;

/// Limit for the tokens of a text where no file sets one: the positions of BERT.
const POSITIONS: usize = 512;

/// How the vectors of a text's tokens become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// The mean.
    Mean,
    /// The sum, divided by the square root of the number of tokens.
    MeanSqrt,
    /// The vector of the first token.
    First,
    /// The maximum in each dimension.
    Max,
}

/// Settings of a model, from its own files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pooling.
    pub pooling: Pooling,
    /// Whether the pooled vector is scaled to length 1.
    pub normalize: bool,
    /// Limit for the tokens of a text, including those that the tokenizer adds.
    pub max_tokens: usize,
}

/// A settings file that is malformed or asks for something unsupported.
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
    /// Names of the files that [`read`](Self::read) asks for. All are optional.
    pub const FILES: [&'static str; 4] = [CONFIG, SENTENCE, MODULES, POOLING];

    /// Reads the settings from the files that `file` returns by name. The default is the mean of
    /// the tokens' vectors, scaled to length 1.
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
                reason: format!("max_seq_length {max_tokens} leaves no room for a word"),
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
                        reason: format!("the module {other:?} is not supported"),
                    });
                }
            }
        }
        let pooling = pooling.map_or(Ok(Pooling::Mean), |config| pooling_of(&config))?;
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

/// The pooling in `1_Pooling/config.json`: one of the flags `pooling_mode_mean_tokens` and so on,
/// or the name `pooling_mode`.
fn pooling_of(
    config: &serde_json::Map<String, serde_json::Value>,
) -> Result<Pooling, SettingsError> {
    let modes: Vec<&str> =
        if let Some(mode) = config.get("pooling_mode").and_then(|mode| mode.as_str()) {
            vec![mode]
        } else {
            let set = config.iter().filter(|(_, value)| **value == serde_json::Value::Bool(true));
            set.filter_map(|(name, _)| name.strip_prefix("pooling_mode_")).collect()
        };
    match *modes {
        ["mean" | "mean_tokens"] => Ok(Pooling::Mean),
        ["mean_sqrt_len_tokens"] => Ok(Pooling::MeanSqrt),
        ["cls" | "cls_token"] => Ok(Pooling::First),
        ["max" | "max_tokens"] => Ok(Pooling::Max),
        _ => Err(SettingsError {
            file: POOLING,
            reason: format!(
                "the pooling {modes:?} is not supported; mean, mean_sqrt_len, cls and max are"
            ),
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
    fn settings_are_read_from_the_files_of_sentence_transformers() {
        let modules = r#"[
            {"idx":0,"name":"0","path":"","type":"sentence_transformers.models.Transformer"},
            {"idx":1,"name":"1","path":"1_Pooling","type":"sentence_transformers.models.Pooling"}
        ]"#;
        let cls = r#"{
            "word_embedding_dimension":384,
            "pooling_mode_cls_token":true,
            "pooling_mode_mean_tokens":false
        }"#;
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
    fn unsupported_settings_are_named() {
        let dense = r#"[{"type":"sentence_transformers.models.Dense"}]"#;
        assert_eq!(
            settings(&[(MODULES, dense)]),
            Err(r#"modules.json: the module "Dense" is not supported"#.to_owned())
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
