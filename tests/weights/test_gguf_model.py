"""A GGUF file becomes the model it was made from, or is refused by its key."""

import numpy as np
import pytest

from jaxdecode.models import ModelConfig, RopeScaling
from jaxdecode.weights import CheckpointError, open_checkpoint
from tests.weights.makers import (
    HEADS,
    KV,
    LAYERS,
    SIZE,
    VOCAB,
    llama_tensors,
    write_gguf,
)

TINY = {
    "vocab_size": VOCAB,
    "max_length": 29,
    "width": 12,
    "mlp_width": 17,
    "num_layers": LAYERS,
    "num_heads": HEADS,
    "num_kv_heads": KV,
    "head_dim": SIZE,
    "activation": "silu",
}


def pair_up(rows, heads):
    """Interleave the halves of each head's rows, row by row, as the format has them."""
    size = len(rows) // heads
    order = [
        head * size + half * (size // 2) + i
        for head in range(heads)
        for i in range(size // 2)
        for half in range(2)
    ]
    return rows[order]


def test_metadata_becomes_the_config(tmp_path):
    config = open_checkpoint(write_gguf(tmp_path / "x.gguf")).config
    assert config == ModelConfig(**TINY)


def test_rows_of_q_and_k_are_unpaired_in_a_llama_file(tmp_path):
    plain = llama_tensors(biases=("q_proj", "k_proj", "v_proj"))
    stored = dict(plain)
    for name, value in plain.items():
        if "q_proj" in name:
            stored[name] = pair_up(value, HEADS)
        if "k_proj" in name:
            stored[name] = pair_up(value, KV)
    opened = open_checkpoint(write_gguf(tmp_path / "x.gguf", tensors=stored))
    assert opened.config.qkv_bias
    for part in ("q.weight", "q.bias", "k.weight", "k.bias", "v.weight", "v.bias"):
        theirs = f"model.layers.1.self_attn.{part[0]}_proj{part[1:]}"
        found = opened.tensors[f"layers.1.attention.{part}"]
        np.testing.assert_array_equal(found, plain[theirs])


@pytest.mark.parametrize("arch", ["qwen2", "qwen3"])
def test_rows_of_q_and_k_stay_in_a_qwen_file(tmp_path, arch):
    biases = ("q_proj", "k_proj", "v_proj") if arch == "qwen2" else ()
    stored = llama_tensors(biases=biases, qk_norm=arch == "qwen3")
    opened = open_checkpoint(write_gguf(tmp_path / "x.gguf", arch, stored))
    assert opened.config.qk_norm == (arch == "qwen3")
    assert opened.config.qkv_bias == (arch == "qwen2")
    for ours, theirs in (("q", "q_proj"), ("k", "k_proj"), ("o", "o_proj")):
        np.testing.assert_array_equal(
            opened.tensors[f"layers.0.attention.{ours}.weight"],
            stored[f"model.layers.0.self_attn.{theirs}.weight"],
        )


def test_a_file_without_output_has_it_tied(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", tensors=llama_tensors(tied=True))
    opened = open_checkpoint(path)
    assert opened.config.tied_output
    assert "head.weight" not in opened.tensors


def test_tokenizer_ids_and_template_are_read(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", **{"tokenizer__ggml__eot_token_id": 5})
    opened = open_checkpoint(path)
    assert (opened.eos_ids, opened.bos_id, opened.pad_id) == ((3, 5), 2, 1)
    assert opened.chat_template == "{{ messages }}"
    source = opened.tokenizer
    assert source.kind == "gguf"
    assert source.metadata["tokens"] == [f"t{i}é" for i in range(VOCAB)]
    assert source.metadata["merges"] == ["t 1"]
    assert source.metadata["token_type"] == [1] * VOCAB
    assert source.metadata["scores"] == [0.5] * VOCAB
    assert (source.metadata["model"], source.metadata["pre"]) == ("gpt2", "smollm")
    assert source.metadata["add_bos_token"] is False
    assert source.metadata["chat_template"] == "{{ messages }}"


def test_a_file_without_tokenizer_has_none(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", without=("tokenizer.ggml.tokens",))
    assert open_checkpoint(path).tokenizer is None


def llama3_factors(factor, theta, size, low=1.0, high=4.0, length=8192):
    """Return the divisor of each frequency, one by one."""
    factors = []
    for i in range(0, size, 2):
        wavelength = 2 * np.pi * theta ** (i / size)
        if wavelength < length / high:
            factors.append(1.0)
        elif wavelength > length / low:
            factors.append(factor)
        else:
            smooth = (length / wavelength - low) / (high - low)
            factors.append(1 / ((1 - smooth) / factor + smooth))
    return np.array(factors, np.float32)


def with_factors(path, factors):
    extra = {"rope_freqs.weight": factors}
    return write_gguf(path, extra=extra, llama__rope__freq_base=5e6)


def test_frequency_divisors_become_llama3_scaling(tmp_path):
    factors = llama3_factors(32.0, 5e6, SIZE)
    assert factors.max() == 32.0
    config = open_checkpoint(with_factors(tmp_path / "x.gguf", factors)).config
    assert config.rope_scaling == RopeScaling("llama3", 32.0, 1.0, 4.0, 8192)


def test_frequency_divisors_of_one_are_no_scaling(tmp_path):
    factors = np.ones(SIZE // 2, np.float32)
    config = open_checkpoint(with_factors(tmp_path / "x.gguf", factors)).config
    assert config.rope_scaling is None


@pytest.mark.parametrize("factors", [[1.0, 1.5, 32.0], [1.0, 2.0], [1.0, 0.5, 8.0]])
def test_other_frequency_divisors_are_refused_by_name(tmp_path, factors):
    path = with_factors(tmp_path / "x.gguf", np.array(factors, np.float32))
    with pytest.raises(CheckpointError, match=r"rope_freqs\.weight"):
        open_checkpoint(path)


def test_a_scaling_factor_is_linear_scaling(tmp_path):
    keys = {"llama__rope__scaling__type": "linear", "llama__rope__scaling__factor": 4.0}
    config = open_checkpoint(write_gguf(tmp_path / "x.gguf", **keys)).config
    assert config.rope_scaling == RopeScaling("linear", 4.0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"llama__expert_count": 8}, "llama.expert_used_count` is missing"),
        ({"llama__rope__scaling__type": "yarn"}, "'yarn'"),
        ({"llama__rope__dimension_count": 4}, "rope.dimension_count` = 4"),
        ({"llama__attention__value_length": 4}, "attention.value_length` = 4"),
        ({"llama__attention__causal": False}, "attention.causal` = False"),
        ({"llama__vocab_size": 12}, "vocab_size` = 12"),
        ({"llama__attention__head_count_kv": [1, 1]}, "per layer"),
        ({"llama__block_count": 3}, "blk.2.attn_norm.weight is missing"),
        ({"llama__block_count": 2**31}, "`num_layers`"),
        ({"llama__feed_forward_length": 2**31 - 1}, "`mlp_width`"),
        ({"llama__embedding_length": "12"}, "unsupported operand|must be"),
        ({"tokenizer__ggml__eos_token_id": VOCAB}, "`eos_token_id`"),
        ({"tokenizer__ggml__tokens": ["a"] * (VOCAB + 1)}, "at most 13 tokens"),
        ({"general__architecture": "mamba"}, "got 'mamba'"),
    ],
)
def test_what_is_not_supported_or_wrong_is_refused_by_name(tmp_path, keys, message):
    arch = keys.get("general__architecture", "llama")
    keys = {k: v for k, v in keys.items() if k != "general__architecture"}
    path = write_gguf(tmp_path / "x.gguf", arch, **keys)
    with pytest.raises(CheckpointError, match=message) as caught:
        open_checkpoint(path)
    assert "x.gguf" in str(caught.value)


def test_a_missing_key_is_named(tmp_path):
    path = write_gguf(tmp_path / "x.gguf", without=("llama.context_length",))
    with pytest.raises(CheckpointError, match=r"`llama\.context_length` is missing"):
        open_checkpoint(path)


def test_a_tensor_of_a_type_that_cannot_be_decoded_is_named(tmp_path):
    stored = llama_tensors()
    stored["model.norm.weight"] = stored["model.norm.weight"].astype(np.float64)
    with pytest.raises(CheckpointError, match=r"output_norm\.weight is F64"):
        open_checkpoint(write_gguf(tmp_path / "x.gguf", tensors=stored))


def test_an_unexpected_tensor_is_named(tmp_path):
    extra = {"blk.0.attn_sinks.weight": np.ones(2, np.float32)}
    with pytest.raises(CheckpointError, match=r"attn_sinks\.weight is unexpected"):
        open_checkpoint(write_gguf(tmp_path / "x.gguf", extra=extra))


def test_the_name_is_the_one_in_the_file_or_the_files_own(tmp_path):
    named = write_gguf(tmp_path / "x.gguf", **{"general__name": "Tiny"})
    assert open_checkpoint(named).name == "Tiny"
    assert open_checkpoint(write_gguf(tmp_path / "small.gguf")).name == "small"
