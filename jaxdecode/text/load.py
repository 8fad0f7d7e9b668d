"""From a model's name, folder or file to a `LanguageModel`."""

from pathlib import Path

import numpy as np

from jaxdecode import weights
from jaxdecode.core import check
from jaxdecode.core.platform import backend
from jaxdecode.text.chat_template import BrokenTemplate, ChatTemplate
from jaxdecode.text.default_sampler import default_sampler
from jaxdecode.text.errors import (
    ChatTemplateError,
    TokenizerError,
    UnsupportedTokenizerError,
)
from jaxdecode.text.gguf_tokenizer import from_gguf
from jaxdecode.text.json_tokenizer import from_json
from jaxdecode.text.language_model import LanguageModel
from jaxdecode.text.page import page_tokens
from jaxdecode.text.tokenizer import Tokenizer

DTYPES = (None, "float32", "bfloat16")
QUANTIZERS = (None, "int8")


def load(
    source: str | Path,
    dtype: str | None = None,
    quantize: str | None = None,
    *,
    adapter: str | Path | None = None,
    max_length: int | None = None,
) -> LanguageModel:
    """Load a language model with its tokenizer and chat template.

    Args:
      source: a known name such as "smollm2-135m" (fetched once, then kept), a folder
        with config.json and *.safetensors, a .gguf file, or "org/name" on the model hub.
      dtype: "float32" or "bfloat16", the type in which weights are stored; None: float32
        on CPU, bfloat16 on GPU and TPU.
      quantize: None, or "int8": matrices in int8 with one scale per output channel,
        activations rounded to int8 per row, sums in int32; `dtype` must then be None.
      adapter: a LoRA adapter folder (adapter_config.json, adapter_model.safetensors),
        merged into the weights of `source`, which must then be a folder or on the hub.
      max_length: how many positions the model is to hold; None is what its files say. A
        model with rotary frequencies of their own for long texts ("longrope") is loaded
        for short ones unless more than those are asked for here.

    Returns:
      The model. `tokenizer` and `chat_template` are None where the source has none; a
      tokenizer of an unknown kind counts as none, and the methods that need one say
      what is wrong with it, as `chat` does for a template that does not compile.

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
    loaded = weights.load_model(
        path,
        dtype=stored,
        adapter=None if adapter is None else weights.resolve(adapter),
        max_length=max_length,
        calibrate=_page,
    )
    return language_model(loaded)


def _page(checkpoint: weights.Checkpoint) -> np.ndarray | None:
    """Return tokens with which int8 weights are calibrated, if there is a tokenizer."""
    tokenizer, _ = read_tokenizer(checkpoint)
    if tokenizer is None:
        return None
    return page_tokens(tokenizer, checkpoint.config.max_length)


def language_model(loaded: weights.LoadedWeights) -> LanguageModel:
    """Return loaded weights with their tokenizer and chat template.

    Args:
      loaded: the result of `weights.load_model`.
    """
    tokenizer, problem = read_tokenizer(loaded)
    texts = special_texts(loaded, tokenizer)
    eos_ids = end_ids(loaded, tokenizer, texts)
    if tokenizer is not None:
        tokenizer = tokenizer.ending_with(eos_ids)
    template = None
    if loaded.chat_template is not None and tokenizer is not None:
        template = read_template(loaded.chat_template, texts)
    return LanguageModel(
        loaded.model,
        config=loaded.config,
        tokenizer=tokenizer,
        eos_ids=eos_ids,
        bos_id=loaded.bos_id,
        pad_id=loaded.pad_id if loaded.eos_ids or not eos_ids else eos_ids[0],
        chat_template=template,
        name=loaded.name,
        special_texts=texts,
        default_sampler=default_sampler(loaded.sampling, eos_ids),
        no_tokenizer=problem,
    )


def special_texts(facts: weights.Facts, tokenizer: Tokenizer | None) -> dict[str, str]:
    """Return the texts of special tokens by name, for chat templates.

    They are the ones that the files name. Only where the files name nothing but ids are
    they looked up in the vocabulary.
    """
    if facts.special_texts is not None:
        return facts.special_texts
    if tokenizer is None:
        return {}
    ids = {
        "bos_token": facts.bos_id,
        "eos_token": facts.eos_ids[0] if facts.eos_ids else None,
    }
    texts = {n: tokenizer.token(i) for n, i in ids.items() if i is not None}
    return {name: text for name, text in texts.items() if text}


def end_ids(
    facts: weights.Facts, tokenizer: Tokenizer | None, texts: dict[str, str]
) -> tuple[int, ...]:
    """Return every id that ends a text: those that the files name by number or text."""
    found = tokenizer and tokenizer.id_of(texts.get("eos_token", ""))
    if found is None or found >= facts.config.vocab_size:
        return facts.eos_ids
    return tuple(dict.fromkeys([*facts.eos_ids, found]))


def read_tokenizer(facts: weights.Facts) -> tuple[Tokenizer | None, str]:
    """Return the tokenizer, or None and why there is none; broken files are refused."""
    if facts.tokenizer is None:
        return None, ""
    try:
        return load_tokenizer(facts.tokenizer), ""
    except UnsupportedTokenizerError as error:
        return None, str(error)


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
    if source.kind == "unsupported":
        raise UnsupportedTokenizerError(f"load_tokenizer: {source.reason}.")
    raise TokenizerError(
        f"load_tokenizer: `source.kind` must be json or gguf, got {source.kind!r}."
    )


def read_template(source: str, texts: dict[str, str]) -> ChatTemplate:
    """Compile the template of a checkpoint; one that does not compile says so in use."""
    try:
        return ChatTemplate(source, **texts)
    except ChatTemplateError as error:  # only a conversation needs it
        return BrokenTemplate(source, error)
    except ValueError as error:  # not a text
        return BrokenTemplate(source, ChatTemplateError(f"chat template: {error}"))
