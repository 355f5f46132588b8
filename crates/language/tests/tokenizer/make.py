"""Writes bytes.json and sentence.json: small vocabularies, and texts with their tokens.

The references are the Python packages tokenizers 0.23 and sentencepiece 0.2.
Usage: make.py TRAINING_TEXT
"""
import json
import random
import sys
import tempfile

import sentencepiece
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
LINES = open(sys.argv[1], encoding="utf-8").read().splitlines()[:1500]

CASES = [
    "", " ", "  ", "\n", "\n\n", "a", " a", "Hello, world!", "Hello  world", "it's WE'RE I'Ve",
    "naïve café", "e\u0301\u0301", "日本語のテキスト", "中文文本。", "한국어", "Привет, мир", "שלום", "مرحبا",
    "😀", "👩‍🚀 👍🏽 🇩🇪", "x = [1, 22, 333, 4444];", "def f(a):\n    return a  # b\n", "\t\tif x:\r\n",
    "1234567890", "3.14159e-10", "²½٣", "a\u00a0b\u2003c\u3000d", "\u200b\u200d", "▁", "a▁b ▁▁ c",
    "<|im_start|>user\nHi<|im_end|>\n", "<|im_end|", "<<|im_end|>>", "<0x0A>", "<s>", "</s>", "<unk>",
    "\x00\x01\x7f", "\U0010ffff\ufffd", "    " * 8 + "x", "x" + " " * 33, "a\n \n  \nb", "...!?!?", "''''s",
]


def generated():
    choose = random.Random(11)
    words = " ".join(LINES[:200]).split()
    alphabet = "abc XYZ 019 \n\t.,'é日ж😀▁<|>"
    for index in range(100):
        if index % 2:
            yield "".join(choose.choice(alphabet) for _ in range(choose.randrange(1, 40)))
        else:
            ends = ["", " ", "  ", "\n", ", "]
            yield "".join(choose.choice(words) + choose.choice(ends) for _ in range(8))


TEXTS = CASES + list(generated())


def write(name, value):
    with open(name, "w", encoding="utf-8") as file:
        json.dump(value, file, ensure_ascii=True, separators=(",", ":"))


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    split = pre_tokenizers.Split(Regex(r"\p{N}"), "isolated")
    bytes_ = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, bytes_])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = [AddedToken(text, special=True, normalized=False) for text in SPECIAL]
    trainer = trainers.BpeTrainer(
        vocab_size=700, initial_alphabet=alphabet, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(LINES, trainer)
    rows = []
    for text in TEXTS:
        tokenizer.encode_special_tokens = False
        parsed = tokenizer.encode(text).ids
        tokenizer.encode_special_tokens = True
        rows.append([text, parsed, tokenizer.encode(text).ids])
    write("bytes.json", {"tokenizer": json.loads(tokenizer.to_str()), "texts": rows})


def sentence():
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as file:
        file.write("\n".join(LINES))
        file.flush()
        prefix = tempfile.mkdtemp() + "/model"
        sentencepiece.SentencePieceTrainer.train(
            input=file.name, model_prefix=prefix, vocab_size=700, model_type="bpe",
            byte_fallback=True, user_defined_symbols=["<|im_start|>", "▁▁", "\n\n"],
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            character_coverage=0.999, minloglevel=2,
        )
    model = sentencepiece.SentencePieceProcessor(model_file=prefix + ".model")
    size = model.get_piece_size()

    def kind(token):
        if model.is_unknown(token):
            return 2
        if model.is_control(token):
            return 3
        if model.is_byte(token):
            return 6
        return 4 if model.get_score(token) == 0 and 2 < token < 6 else 1

    vocabulary = {
        "tokens": [model.id_to_piece(token) for token in range(size)],
        "scores": [model.get_score(token) for token in range(size)],
        "types": [kind(token) for token in range(size)],
    }
    rows = [[text, model.encode(text)] for text in TEXTS]
    write("sentence.json", {"vocabulary": vocabulary, "texts": rows})


byte_level()
sentence()
