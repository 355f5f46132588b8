"""Writes vectors.json: prompts of conversations, as transformers 5.24 renders them.

smollm2, llama3, qwen3 and gemma3 are from the models' files. zephyr, llama2, qwen2, qwen2.5, phi3
and gemma2 are written after those that the models were published with. features.jinja is ours.
"""
import datetime
import json
import pathlib

import transformers.utils.chat_template_utils as reference

HERE = pathlib.Path(__file__).parent
TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TIME = datetime.datetime(2026, 11, 28, 1, 2, 3)


def m(role, content, **more):
    return {"role": role, "content": content, **more}


TEXTS = [
    "Hi", "Hello there.", "  padded \n", "", "1 < 2 & \"q\" 'p'", "naïve 😀 日本", "a\nb\n\nc", "{{ x }} {% y %}",
    "<|im_end|>", "<think>\nhm\n</think>\n\nYes.", "<tool_response>r</tool_response>", "tab\there\\n",
]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather", "description": "Weather of <a> city & \"more\".",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
CALL = {"type": "function", "function": {"name": "weather", "arguments": {"city": "Zürich", "n": [1, 2.5, True, None]}}}


def conversations():
    for text in TEXTS:
        yield [m("user", text)], {}
    for text in TEXTS[:8]:
        yield [m("system", text), m("user", "Q")], {}
    for text in TEXTS:
        yield [m("user", "Q"), m("assistant", text), m("user", "R")], {}
    yield [m("system", "S"), m("user", "A"), m("assistant", "B"), m("user", "C"), m("assistant", "D")], {}
    yield [m("user", "A"), m("assistant", "B")], {"add_generation_prompt": False}
    yield [m("user", "A"), m("assistant", "<think>t</think>B"), m("user", "C"), m("assistant", "D")], {"add_generation_prompt": False}
    yield [m("user", "A"), m("user", "B")], {}
    yield [m("assistant", "A"), m("user", "B")], {}
    yield [m("user", "A"), m("system", "late"), m("user", "B")], {}
    yield [m("wizard", "A")], {}
    yield [m("user", "A")] * 3, {}
    yield [m("user", str(i)) if i % 2 == 0 else m("assistant", str(i)) for i in range(9)], {}
    yield [m("user", "A")], {"enable_thinking": False}
    yield [m("user", "A")], {"enable_thinking": True}
    yield [m("user", "A")], {"tools": [TOOL]}
    yield [m("system", "S"), m("user", "A")], {"tools": [TOOL, TOOL]}
    yield [m("user", "A"), m("assistant", "", tool_calls=[CALL]), m("tool", "sunny")], {"tools": [TOOL]}
    yield [m("user", "A"), m("assistant", "x", tool_calls=[CALL, CALL]), m("tool", "1"), m("tool", "2"), m("user", "B")], {"tools": [TOOL]}
    yield [m("user", "A", name="Eve")], {}
    yield [m("user", [{"type": "text", "text": " part "}])], {}
    yield [m("user", None)], {}
    yield [], {}


def render(template, messages, options):
    compiled = reference._compile_jinja_template(template)
    variables = {"messages": messages, "tools": None, "documents": None, "add_generation_prompt": True}
    try:
        return {"text": compiled.render(**{**variables, **TOKENS, **options}), "error": None}
    except Exception as error:
        return {"text": None, "error": str(error)}


class Frozen(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return TIME


reference.datetime = Frozen
CHATS = [{"messages": messages, "options": options} for messages, options in conversations()]
TEMPLATES = {path.stem: path.read_text(encoding="utf-8") for path in sorted(HERE.glob("*.jinja"))}
RESULTS = {
    name: [render(template, chat["messages"], chat["options"]) for chat in CHATS]
    for name, template in TEMPLATES.items()
}
whole = {"time": int(TIME.replace(tzinfo=datetime.timezone.utc).timestamp()), "chats": CHATS, "results": RESULTS}
(HERE / "vectors.json").write_text(json.dumps(whole, separators=(",", ":")), encoding="utf-8")
print(len(CHATS), {name: sum(r["text"] is not None for r in rows) for name, rows in RESULTS.items()})
