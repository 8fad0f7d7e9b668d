"""From a model's name, folder or file to a `LanguageModel`."""

from pathlib import Path

import numpy as np

from jaxdecode import weights
from jaxdecode.core import check
from jaxdecode.core.platform import backend
from jaxdecode.text.chat_template import ChatTemplate
from jaxdecode.text.errors import TokenizerError
from jaxdecode.text.gguf_tokenizer import from_gguf
from jaxdecode.text.json_tokenizer import from_json
from jaxdecode.text.language_model import LanguageModel
from jaxdecode.text.page import page_tokens
from jaxdecode.text.tokenizer import Tokenizer

DTYPES = (None, "float32", "bfloat16")
QUANTIZERS = (None, "int8")


def load(
    source: str | Path, dtype: str | None = None, quantize: str | None = None
) -> LanguageModel:
    """Load a language model with its tokenizer and chat template.

    Args:
      source: a known name such as "smollm2-135m" (fetched once, then kept), a folder
        with config.json and *.safetensors, a .gguf file, or "org/name" on the model hub.
      dtype: "float32" or "bfloat16", the type in which weights are stored; None: float32
        on CPU, bfloat16 on GPU and TPU.
      quantize: None, or "int8": matrices in int8 with one scale per output channel,
        activations rounded to int8 per row, sums in int32; `dtype` must then be None.

    Returns:
      The model. `tokenizer` and `chat_template` are None where the source has none.

    Raises:
      TypeError: if `source` is neither a str nor a path.
      ValueError: for an unknown name, dtype or quantize; `CheckpointError`,
        `TokenizerError` and `ChatTemplateError`, for broken or unsupported files, are
        ValueErrors too.
      FileNotFoundError: if there is no such file or folder.
    """
    check.choice("load", "dtype", dtype, DTYPES)
    check.choice("load", "quantize", quantize, QUANTIZERS)
    if quantize and dtype:
        raise ValueError(
            f"load: `dtype` must be None where `quantize` is given, got {dtype!r}."
        )
    stored = quantize or dtype or backend().dtype
    path = weights.resolve(source)
    return language_model(weights.load_model(path, dtype=stored, calibrate=_page))


def _page(checkpoint: weights.Checkpoint) -> np.ndarray | None:
    """Return tokens with which int8 weights are calibrated, if there is a tokenizer."""
    if checkpoint.tokenizer is None:
        return None
    tokenizer = load_tokenizer(checkpoint.tokenizer)
    return page_tokens(tokenizer, checkpoint.config.max_length)


def language_model(loaded: weights.LoadedWeights) -> LanguageModel:
    """Return loaded weights with their tokenizer and chat template.

    Args:
      loaded: the result of `weights.load_model`.
    """
    tokenizer = load_tokenizer(loaded.tokenizer) if loaded.tokenizer else None
    if tokenizer is not None:
        tokenizer = tokenizer.ending_with(loaded.eos_ids)
    return LanguageModel(
        loaded.model,
        config=loaded.config,
        tokenizer=tokenizer,
        eos_ids=loaded.eos_ids,
        bos_id=loaded.bos_id,
        pad_id=loaded.pad_id,
        chat_template=_chat_template(loaded, tokenizer),
        name=loaded.name,
    )


def load_tokenizer(source: weights.TokenizerSource) -> Tokenizer:
    """Build the tokenizer of a checkpoint.

    Args:
      source: a tokenizer.json file, or the metadata of a GGUF file.

    Raises:
      FileNotFoundError: if the file does not exist.
      TokenizerError: if it is broken or of a kind that is not supported.
    """
    if source.kind == "json" and source.path is not None:
        return from_json(source.path)
    if source.kind == "gguf":
        return from_gguf(source.metadata)
    raise TokenizerError(
        f"load_tokenizer: `source.kind` must be json or gguf, got {source.kind!r}."
    )


def _chat_template(
    loaded: weights.LoadedWeights, tokenizer: Tokenizer | None
) -> ChatTemplate | None:
    if loaded.chat_template is None or tokenizer is None:
        return None
    ids = (loaded.bos_id, loaded.eos_ids[0] if loaded.eos_ids else None)
    bos, eos = (tokenizer.token(i) if i is not None else None for i in ids)
    return ChatTemplate(loaded.chat_template, bos, eos)
