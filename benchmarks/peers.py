"""The peers on the very same weights: Hugging Face on torch, and llama.cpp.

Each function returns a runner `(prompts, new_tokens) -> None`, or raises `MissingPeer`,
whose message goes into the output: a peer that is not there is named, not passed over.
"""

import ctypes
import functools
import pathlib
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from jaxdecode.core.cache_folder import cache_folder
from jaxdecode.models import SHAPES, random_params
from jaxdecode.weights import open_checkpoint

Runner = Callable[[list[list[int]], int], Any]


class MissingPeer(Exception):
    """A peer that is not installed or cannot run here."""


def hugging_face(path: pathlib.Path, dtype: str) -> Runner:
    """Return Hugging Face `generate` with sampling, on the weights of a GGUF file."""
    checkpoint = open_checkpoint(path)
    return hugging_face_of(checkpoint.config, checkpoint.tensors, dtype)


@functools.lru_cache(maxsize=2)
def hugging_face_random(shape: str, dtype: str, *, compiled: bool = False) -> Runner:
    """Return the same on the random weights that ours has for a known shape."""
    config = SHAPES[shape]
    return hugging_face_of(config, random_params(config), dtype, compiled=compiled)


def hugging_face_of(
    config: Any, tensors: Mapping[str, Any], dtype: str, *, compiled: bool = False
) -> Runner:
    """Return Hugging Face `generate` with sampling, on given weights.

    Args:
      config: sizes of a llama. Scaled rotations are left out: they cost no time.
      tensors: weights by our names.
      dtype: "float32" or "bfloat16".
      compiled: with a static cache; then Hugging Face compiles the step on a GPU.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        raise MissingPeer(f"Hugging Face: {error}") from error
    model = transformers.LlamaForCausalLM(_hf_config(transformers, config))
    state = {
        _hf_name(name): torch.from_numpy(np.array(tensor, np.float32))
        for name, tensor in tensors.items()
    }
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    model = model.to(getattr(torch, dtype)).eval()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device)
    options = {"cache_implementation": "static"} if compiled else {}

    def run(prompts, new_tokens):
        ids = torch.tensor(prompts, device=device)
        with torch.no_grad():
            made = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=True,
                top_k=50,
                top_p=0.9,
                temperature=0.8,
                max_new_tokens=new_tokens,
                min_new_tokens=new_tokens,
                pad_token_id=0,
                **options,
            )
        if device == "cuda":
            torch.cuda.synchronize()
        return made

    run.model = model
    return run


def llama_cpp(
    path: pathlib.Path, kind: str, rows: int, columns: int, *, together: int = 0
) -> Runner:
    """Return a greedy loop of llama.cpp over `rows` sequences in one batch.

    Args:
      path: a GGUF file of any precision.
      kind: "F32", "BF16" or "Q8_0": what the weights are converted to first.
      rows: sequences decoded together.
      columns: positions of each sequence.
      together: tokens of the longest call; it is split into pieces it likes.
    """
    try:
        import llama_cpp
    except (ImportError, OSError, RuntimeError) as error:
        raise MissingPeer(f"llama.cpp: {error}") from error
    _quiet(llama_cpp)
    converted = _requantized(llama_cpp, path, kind)
    settings = llama_cpp.llama_model_default_params()
    model = llama_cpp.llama_model_load_from_file(str(converted).encode(), settings)
    options = llama_cpp.llama_context_default_params()
    options.n_ctx = rows * columns
    options.n_batch = options.n_ubatch = max(512, rows * 16)
    options.n_batch = max(options.n_batch, together)
    options.n_seq_max = rows
    options.kv_unified = False
    options.n_threads = options.n_threads_batch = _cores()
    context = llama_cpp.llama_init_from_model(model, options)
    vocab = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    batch = llama_cpp.llama_batch_init(rows * columns, 0, 1)
    loop = _LlamaLoop(llama_cpp, context, batch, vocab)
    loop.model = model
    return loop.run


class _LlamaLoop:
    """Greedy decoding of several sequences through the C interface."""

    def __init__(self, api: Any, context: Any, batch: Any, vocab: int):
        self.api, self.context, self.batch, self.vocab = api, context, batch, vocab
        self.model = None

    def run(self, prompts, new_tokens):
        self.api.llama_memory_clear(self.api.llama_get_memory(self.context), True)
        rows = [(s, p, t) for s, row in enumerate(prompts) for p, t in enumerate(row)]
        last = [len(row) - 1 for row in prompts]
        wanted = [p == last[s] for s, p, _ in rows]
        tokens = self._decode(rows, wanted)
        made = [tokens]
        for step in range(new_tokens - 1):
            rows = [(s, last[s] + 1 + step, int(t)) for s, t in enumerate(tokens)]
            tokens = self._decode(rows, [True] * len(rows))
            made.append(tokens)
        return np.stack(made, axis=1)

    def _decode(self, rows, wanted):
        batch = self.batch
        batch.n_tokens = len(rows)
        for i, (sequence, position, token) in enumerate(rows):
            batch.token[i], batch.pos[i] = token, position
            batch.n_seq_id[i], batch.seq_id[i][0] = 1, sequence
            batch.logits[i] = wanted[i]
        if self.api.llama_decode(self.context, batch):
            raise RuntimeError("llama_decode failed")
        at = [i for i, w in enumerate(wanted) if w]
        return np.asarray([self._best(i) for i in at])

    def _best(self, index):
        pointer = self.api.llama_get_logits_ith(self.context, index)
        return int(np.ctypeslib.as_array(pointer, (self.vocab,)).argmax())


def _requantized(api: Any, path: pathlib.Path, kind: str) -> pathlib.Path:
    target = cache_folder() / "peers" / f"{path.stem}-{kind}.gguf"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        options = api.llama_model_quantize_default_params()
        options.allow_requantize = True
        options.ftype = getattr(api, _FTYPES[kind])
        part = target.with_suffix(".part")
        source, sink = str(path).encode(), str(part).encode()
        if api.llama_model_quantize(source, sink, ctypes.byref(options)):
            raise MissingPeer(f"llama.cpp: could not convert the weights to {kind}")
        part.replace(target)
    return target


_FTYPES = {
    "F32": "LLAMA_FTYPE_ALL_F32",
    "BF16": "LLAMA_FTYPE_MOSTLY_BF16",
    "Q8_0": "LLAMA_FTYPE_MOSTLY_Q8_0",
}


def _quiet(api: Any) -> None:
    @api.llama_log_callback
    def silent(level, text, data):
        pass

    api.llama_log_set(silent, ctypes.c_void_p(0))
    api.jaxdecode_keeps_the_callback = silent


def _cores() -> int:
    import os

    return os.cpu_count() or 1


def _hf_config(transformers: Any, config: Any) -> Any:
    return transformers.LlamaConfig(
        vocab_size=config.vocab_size,
        hidden_size=config.width,
        intermediate_size=config.mlp_width,
        num_hidden_layers=config.num_layers,
        num_attention_heads=config.num_heads,
        num_key_value_heads=config.num_kv_heads,
        max_position_embeddings=config.max_length,
        rms_norm_eps=config.norm_eps,
        rope_theta=config.rope_theta,
        tie_word_embeddings=config.tied_output,
    )


def _hf_name(name: str) -> str:
    """Translate our dotted name of a llama weight to Hugging Face's."""
    if name == "embedding.weight":
        return "model.embed_tokens.weight"
    if name == "head.weight":
        return "lm_head.weight"
    for ours, theirs in _RENAMED.items():
        name = name.replace(ours, theirs)
    return f"model.{name}"


_RENAMED = {
    "attention_norm": "input_layernorm",
    "mlp_norm": "post_attention_layernorm",
    "attention.q.": "self_attn.q_proj.",
    "attention.k.": "self_attn.k_proj.",
    "attention.v.": "self_attn.v_proj.",
    "attention.o.": "self_attn.o_proj.",
    "mlp.gate.": "mlp.gate_proj.",
    "mlp.up.": "mlp.up_proj.",
    "mlp.down.": "mlp.down_proj.",
}
