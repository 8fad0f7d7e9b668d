"""Shapes of well-known models, for measurements that need no download."""

from jaxdecode.models.config import ModelConfig, RopeScaling

SMOLLM2_135M = ModelConfig(
    vocab_size=49152,
    max_length=8192,
    width=576,
    mlp_width=1536,
    num_layers=30,
    num_heads=9,
    num_kv_heads=3,
    rope_theta=100000.0,
    tied_output=True,
)

LLAMA_1B = ModelConfig(
    vocab_size=128256,
    max_length=131072,
    width=2048,
    mlp_width=8192,
    num_layers=16,
    num_heads=32,
    num_kv_heads=8,
    rope_theta=500000.0,
    rope_scaling=RopeScaling("llama3", factor=32.0),
    tied_output=True,
)

LLAMA_8B = ModelConfig(
    vocab_size=128256,
    max_length=131072,
    width=4096,
    mlp_width=14336,
    num_layers=32,
    num_heads=32,
    num_kv_heads=8,
    rope_theta=500000.0,
    rope_scaling=RopeScaling("llama3", factor=8.0),
)

SHAPES = {
    "smollm2-135m": SMOLLM2_135M,
    "llama-3.2-1b": LLAMA_1B,
    "llama-3.1-8b": LLAMA_8B,
}
