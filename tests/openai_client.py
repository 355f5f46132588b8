"""Embeddings and errors of the edge, as the unmodified openai package reports them, as JSON."""

import json
import sys

import openai

base, model = sys.argv[1:]
client = openai.OpenAI(base_url=base, api_key="none", max_retries=0)
texts = json.load(sys.stdin)
answer = client.embeddings.create(model=model, input=texts)
short = client.embeddings.create(
    model=model, input=texts[0], dimensions=64, encoding_format="float", user="somebody"
)
try:
    client.embeddings.create(model="no-such-model", input="text")
    error = None
except openai.NotFoundError as raised:
    error = {
        "status": raised.status_code,
        "code": raised.code,
        "param": raised.param,
        "message": raised.message,
    }
json.dump(
    {
        "embeddings": [item.embedding for item in answer.data],
        "indices": [item.index for item in answer.data],
        "short": short.data[0].embedding,
        "usage": answer.usage.model_dump(),
        "error": error,
    },
    sys.stdout,
)
