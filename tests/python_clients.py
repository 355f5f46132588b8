"""What unmodified Python clients get from the edge, as JSON: function, edge, and its parameters."""

import json
import os
import sys

_, name, edge, *parameters = sys.argv
os.environ["HF_ENDPOINT"] = edge
os.environ["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"


def raised(call, *arguments, **options):
    """The name of the error that a call raises."""
    try:
        call(*arguments, **options)
    except Exception as error:
        return type(error).__name__
    return None


def file(repo, filename, revision):
    from huggingface_hub import hf_hub_download

    return {"file": hf_hub_download(repo, filename, revision=revision)}


def hub(repo, version):
    import huggingface_hub as hub

    downloaded = hub.hf_hub_download(repo, "config.json", revision=f"v{version}")
    snapshot = hub.snapshot_download(repo)
    again = hub.snapshot_download(repo, local_files_only=True)
    assert again == snapshot
    metadata = hub.get_hf_file_metadata(hub.hf_hub_url(repo, "model.onnx"))
    files = [
        os.path.relpath(os.path.join(folder, name), snapshot)
        for folder, _, names in os.walk(snapshot)
        for name in names
    ]
    return {
        "file": downloaded,
        "snapshot": snapshot,
        "files": sorted(files),
        "listed": hub.HfApi().list_repo_files(repo),
        "commit": hub.HfApi().model_info(repo).sha,
        "metadata": {"commit": metadata.commit_hash, "size": metadata.size},
        "missing": [
            raised(hub.hf_hub_download, repo, "no-such-file"),
            raised(hub.hf_hub_download, repo, "config.json", revision="9.9.9"),
            raised(hub.hf_hub_download, "somebody/nothing", "config.json"),
        ],
    }


def openai(model):
    from openai import OpenAI

    client = OpenAI(base_url=f"{edge}/v1", api_key="none", max_retries=0)
    embedded = client.embeddings.create(model=model, input="text")
    return {
        "models": [model.id for model in client.models.list()],
        "length": len(embedded.data[0].embedding),
    }


def litellm(model):
    import litellm

    litellm.suppress_debug_info = True

    def embed(model):
        return litellm.embedding(
            model=f"openai/{model}", input=["one", "two"], api_base=f"{edge}/v1", api_key="none"
        )

    try:
        error = embed("nobodys")
    except Exception as raised:
        error = f"{type(raised).__name__}: {raised}"
    lengths = [len(item["embedding"]) for item in embed(model).data]
    return {"lengths": lengths, "error": str(error)}


json.dump(globals()[name](*parameters), sys.stdout)
