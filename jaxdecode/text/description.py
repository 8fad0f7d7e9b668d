"""A model in words: sizes, types, tokenizer, special ids, template, what is unsupported.

No weight is read. A model that cannot be loaded is described as far as its files go.
"""

import warnings
from pathlib import Path

from jaxdecode.text.chat_template import BrokenTemplate
from jaxdecode.text.errors import ChatTemplateError, TokenizerError
from jaxdecode.text.load import (
    default_sampler,
    end_ids,
    read_template,
    read_tokenizer,
    special_texts,
)
from jaxdecode.text.tokenizer import Tokenizer
from jaxdecode.weights import Checkpoint
from jaxdecode.weights.summary import Summary, summarize


def describe_model(path: str | Path) -> dict[str, str]:
    """Return what is known of a model, by name, each a line.

    Args:
      path: a folder or a `.gguf` file.

    Returns:
      architecture, sizes, dtypes, tokenizer, special ids, template, sampler, licence and
      what is unsupported ("nothing" if all of it is supported), among others.

    Raises:
      FileNotFoundError: if there is nothing at `path`.
    """
    summary = summarize(path)
    lines = {"path": str(summary.path), "architecture": summary.architecture}
    checkpoint = summary.checkpoint
    if checkpoint is not None:
        lines |= {"name": checkpoint.name, "sizes": _sizes(checkpoint)}
    lines |= {"parameters": f"{summary.elements:,}", "dtypes": _types(summary)}
    problems = list(summary.problems)
    if checkpoint is not None:
        lines |= _text_parts(checkpoint, problems)
    lines["licence"] = summary.licence or "not named"
    lines["unsupported"] = "; ".join(problems) or "nothing"
    return lines


def _sizes(checkpoint: Checkpoint) -> str:
    config = checkpoint.config
    parts = [
        f"family {config.family}",
        f"{config.num_layers} layers",
        f"width {config.width}",
        f"MLP {config.mlp_width}",
        f"{config.num_heads} heads of {config.head_size}",
        f"{config.kv_heads} of keys and values",
        f"vocabulary {config.vocab_size}",
        f"at most {config.max_length} tokens",
    ]
    return ", ".join(parts)


def _types(summary: Summary) -> str:
    sizes = summary.bytes_by_type.items()
    return ", ".join(f"{kind} {size / 1e6:.1f} MB" for kind, size in sizes) or "none"


def _text_parts(checkpoint: Checkpoint, problems: list[str]) -> dict[str, str]:
    """Return the lines on tokenizer, ids, template and sampler; add what is wrong."""
    try:
        tokenizer, problem = read_tokenizer(checkpoint)
    except TokenizerError as error:
        tokenizer, problem = None, str(error)
    problems += [problem] * bool(problem)
    texts = special_texts(checkpoint, tokenizer)
    eos_ids = end_ids(checkpoint, tokenizer, texts)
    lines = {
        "tokenizer": repr(tokenizer) if tokenizer else "none",
        "special ids": _special_ids(checkpoint, eos_ids, tokenizer),
        "template": "none",
    }
    if checkpoint.chat_template is not None:
        template = read_template(checkpoint.chat_template, texts)
        lines["template"] = _template(template, problems)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        sampler = default_sampler(checkpoint.sampling, eos_ids)
    problems += [str(warning.message) for warning in caught]
    lines["sampler"] = "none" if sampler is None else repr(sampler)
    return lines


def _special_ids(
    checkpoint: Checkpoint, eos_ids: tuple[int, ...], tokenizer: Tokenizer | None
) -> str:
    def shown(token: int | None) -> str:
        text = tokenizer.token(token) if tokenizer and token is not None else ""
        return f"{token} {text!r}" if text else str(token)

    ends = ", ".join(map(shown, eos_ids)) or "none"
    return f"bos {shown(checkpoint.bos_id).lower()}; eos {ends}; pad " + shown(
        checkpoint.pad_id if checkpoint.eos_ids or not eos_ids else eos_ids[0]
    )


def _template(template, problems: list[str]) -> str:
    size = f"{len(template.source)} characters"
    if isinstance(template, BrokenTemplate):
        problems.append(str(template.error))
        return f"{size}, does not compile"
    try:
        names = sorted(template.variables - {"messages"})
    except ChatTemplateError:
        names = []
    return f"{size}, reads {', '.join(names)}" if names else size
