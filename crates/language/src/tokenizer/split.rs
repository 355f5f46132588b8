use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{PreTokenizerWrapper, SplitDelimiterBehavior};

use super::error::TokenizerError;

/// How byte-level BPE cuts text into words, by the name in `tokenizer.ggml.pre`.
pub(super) struct Splitting {
    /// Every expression cuts the pieces that those before it left.
    expressions: &'static [&'static str],
    /// A word that is a token is not built from its parts.
    pub(super) whole_words: bool,
    /// Text is brought into Unicode's form C first, as the models' `tokenizer.json` wants it.
    /// llama.cpp does not.
    pub(super) composes: bool,
    /// The beginning-of-text token is added unless the file says otherwise.
    pub(super) adds_bos: bool,
}

const GPT_2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const LLAMA_3: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const QWEN_2: &str = concat!(
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}",
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const TEKKEN: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);
const GPT_4O: &str = concat!(
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*",
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
);

/// The names that are known, for messages.
const NAMES: &str = "default, gpt-2, phi-2, mpt, olmo, jais, smollm, starcoder, refact, \
    command-r, codeshell, exaone, llama3, llama-v3, llama-bpe, falcon3, lfm2, smaug-bpe, dbrx, \
    glm4, chatglm-bpe, qwen2, deepseek-r1-qwen, stablelm2, tekken, gpt-4o, llama4";

impl Splitting {
    /// The expressions are those of the models' own `tokenizer.json`, which llama.cpp quotes beside
    /// its names in `llama-vocab.cpp`.
    pub(super) fn named(name: &str) -> Result<Self, TokenizerError> {
        let of = |expressions| Self {
            expressions,
            whole_words: false,
            composes: false,
            adds_bos: false,
        };
        Ok(match name {
            "gpt-2" | "phi-2" | "mpt" | "olmo" | "jais" => of(&[GPT_2]),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" | "exaone" => {
                of(&[r"\p{N}", GPT_2])
            }
            "llama3" | "llama-v3" | "llama-bpe" | "falcon3" | "lfm2" => {
                Self { whole_words: true, adds_bos: true, ..of(&[LLAMA_3]) }
            }
            "smaug-bpe" | "dbrx" | "glm4" | "chatglm-bpe" => of(&[LLAMA_3]),
            "qwen2" => Self { composes: true, ..of(&[QWEN_2]) },
            "deepseek-r1-qwen" | "stablelm2" => of(&[QWEN_2]),
            "tekken" => Self { whole_words: true, adds_bos: true, ..of(&[TEKKEN]) },
            "gpt-4o" | "llama4" => of(&[GPT_4O]),
            "default" => of(&[r"[\p{P}$+<=>^~|]+", GPT_2, r"\p{N}+", "[0-9][0-9][0-9]"]),
            _ => {
                return Err(TokenizerError::Unsupported {
                    what: "tokenizer.ggml.pre",
                    found: name.to_owned(),
                    supported: NAMES,
                });
            }
        })
    }

    pub(super) fn build(&self) -> Result<PreTokenizerWrapper, TokenizerError> {
        let split = |expression: &&str| {
            let pattern = SplitPattern::Regex((*expression).to_owned());
            Split::new(pattern, SplitDelimiterBehavior::Isolated, false)
                .map(PreTokenizerWrapper::Split)
                .map_err(|error| TokenizerError::Inconsistent(error.to_string()))
        };
        let mut steps: Vec<PreTokenizerWrapper> =
            self.expressions.iter().map(split).collect::<Result<_, _>>()?;
        steps.push(PreTokenizerWrapper::ByteLevel(ByteLevel::new(false, true, false)));
        Ok(PreTokenizerWrapper::Sequence(Sequence::new(steps)))
    }
}
