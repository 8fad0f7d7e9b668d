"""T5 as a model of your own: a Flax encoder and decoder that jaxdecode drives.

The encoder runs once for each prompt. What it made, each decoder layer's keys and values
of the prompt, lies in the cache with the decoder's own, so samples, beams and scores
share it. The folder is one as Hugging Face stores it: config.json and model.safetensors.

    python scripts/examples/t5.py FOLDER --prompt 13959 1566 12 2968 10 --beams 4

Raffel et al., Exploring the Limits of Transfer Learning, 2020, arXiv 1910.10683.
"""

import argparse
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

import jaxdecode as jd


class Norm(nnx.Module):
    """Divide by the root mean square and multiply by a weight."""

    def __init__(self, weights, name):
        self.weight = nnx.Param(weights[f"{name}.weight"])

    def __call__(self, x):
        size = jnp.mean(x * x, axis=-1, keepdims=True)
        return x * jax.lax.rsqrt(size + 1e-6) * self.weight[...]


class Attention(nnx.Module):
    """Attention without a scale; whoever calls it gives keys, values and the bias."""

    def __init__(self, weights, name, heads):
        self.heads = heads
        for part in "qkvo":
            setattr(self, part, nnx.Param(weights[f"{name}.{part}.weight"]))

    def split(self, x, matrix):
        """Return [B, S, H, D]."""
        y = x @ matrix[...].T
        return y.reshape(*y.shape[:2], self.heads, -1)

    def read(self, x):
        """Return the keys and values of x."""
        return self.split(x, self.k), self.split(x, self.v)

    def __call__(self, x, keys, values, bias):
        """Attend from x [B, S, W]; bias [B or 1, H or 1, S, T] is added to the scores."""
        scores = jnp.einsum("bshd,bthd->bhst", self.split(x, self.q), keys) + bias
        found = jnp.einsum("bhst,bthd->bshd", jax.nn.softmax(scores), values)
        return found.reshape(*x.shape[:2], -1) @ self.o[...].T


class Mlp(nnx.Module):
    """Two matrices and a relu, or three and a gated gelu."""

    def __init__(self, weights, name):
        names = ("wi_0", "wi_1") if f"{name}.wi_0.weight" in weights else ("wi",)
        self.inner = nnx.List(nnx.Param(weights[f"{name}.{n}.weight"]) for n in names)
        self.outer = nnx.Param(weights[f"{name}.wo.weight"])

    def __call__(self, x):
        first, *gated = (x @ matrix[...].T for matrix in self.inner)
        y = jax.nn.gelu(first) * gated[0] if gated else jax.nn.relu(first)
        return y @ self.outer[...].T


class Block(nnx.Module):
    """One layer of the encoder, or of the decoder, which has a second attention."""

    def __init__(self, weights, name, heads, crosses):
        own = f"{name}.layer.0"
        self.own = Attention(weights, f"{own}.SelfAttention", heads)
        self.own_norm = Norm(weights, f"{own}.layer_norm")
        if crosses:
            other = f"{name}.layer.1"
            self.cross = Attention(weights, f"{other}.EncDecAttention", heads)
            self.cross_norm = Norm(weights, f"{other}.layer_norm")
        last = f"{name}.layer.{2 if crosses else 1}"
        self.mlp = Mlp(weights, f"{last}.DenseReluDense")
        self.mlp_norm = Norm(weights, f"{last}.layer_norm")


class T5(nnx.Module):
    """An encoder and a decoder over one embedding."""

    def __init__(self, config, weights):
        self.config = Sizes(config)
        heads, layers = config["num_heads"], config["num_layers"]
        below = config.get("num_decoder_layers") or layers

        def blocks(side, count, crosses):
            names = (f"{side}.block.{i}" for i in range(count))
            return nnx.List(Block(weights, name, heads, crosses) for name in names)

        self.embedding = nnx.Param(weights["shared.weight"])
        self.encoder = blocks("encoder", layers, False)
        self.decoder = blocks("decoder", below, True)
        self.encoder_norm = Norm(weights, "encoder.final_layer_norm")
        self.decoder_norm = Norm(weights, "decoder.final_layer_norm")
        table = "block.0.layer.0.SelfAttention.relative_attention_bias.weight"
        self.encoder_bias = nnx.Param(weights[f"encoder.{table}"])
        self.decoder_bias = nnx.Param(weights[f"decoder.{table}"])
        self.head = nnx.Param(weights.get("lm_head.weight", weights["shared.weight"]))

    def encode(self, tokens, mask):
        """Return each decoder layer's keys and values of the prompts [B, P]."""
        place = jnp.arange(tokens.shape[1], dtype=jnp.int32)
        bias = self.config.bias(self.encoder_bias[...], place, place, both_ways=True)
        bias = bias[None] + jnp.where(mask, 0.0, -1e30)[:, None, None, :]
        x = self.embedding[...][tokens]
        for block in self.encoder:
            y = block.own_norm(x)
            x = x + block.own(y, *block.own.read(y), bias)
            x = x + block.mlp(block.mlp_norm(x))
        x = self.encoder_norm(x)
        return [block.cross.read(x) for block in self.decoder]

    def decode(self, tokens, positions, cache, states, mask):
        """Read output tokens [B, S]; return logits [B, S, V] and the cache."""
        columns = jnp.arange(cache[0][0].shape[1], dtype=jnp.int32)

        def rows_bias(place):
            table = self.decoder_bias[...]
            near = self.config.bias(table, place, columns, both_ways=False)
            return jnp.where(columns <= place[:, None], near, -1e30)

        bias = jax.vmap(rows_bias)(positions)
        beside = jnp.where(mask, 0.0, -1e30)[:, None, None, :]
        put = jax.vmap(lambda old, new, place: old.at[place].set(new))
        x, written = self.embedding[...][tokens], []
        for block, kept, prompt in zip(self.decoder, cache, states, strict=True):
            y = block.own_norm(x)
            new = block.own.read(y)
            kept = [put(a, b, positions) for a, b in zip(kept, new, strict=True)]
            x = x + block.own(y, *kept, bias)
            x = x + block.cross(block.cross_norm(x), *prompt, beside)
            x = x + block.mlp(block.mlp_norm(x))
            written.append(tuple(kept))
        x = self.decoder_norm(x)
        scale = x.shape[-1] ** -0.5 if self.config.scales else 1.0
        return x * scale @ self.head[...].T, written


class Sizes:
    """What of config.json the model needs; compared by value."""

    def __init__(self, config):
        self.buckets = config["relative_attention_num_buckets"]
        self.far = config["relative_attention_max_distance"]
        self.scales = config.get("tie_word_embeddings") is not False
        self.cache = (config["num_heads"], config["d_kv"])
        self.layers = config.get("num_decoder_layers") or config["num_layers"]

    def __eq__(self, other):
        return isinstance(other, Sizes) and vars(self) == vars(other)

    def __hash__(self):
        return hash(tuple(vars(self).values()))

    def bias(self, table, here, there, *, both_ways):
        """Return [H, S, T]: what a head adds for the distance from here to there.

        Near distances have a bucket each, far ones share buckets that grow like their
        logarithm, up to the farthest.
        """
        back = here[:, None] - there[None, :]
        count = self.buckets // 2 if both_ways else self.buckets
        ahead = jnp.where((back < 0) & both_ways, count, 0)
        distance = jnp.abs(back) if both_ways else jnp.maximum(back, 0)
        exact = count // 2
        ratio = jnp.log(jnp.maximum(distance, 1).astype(jnp.float32) / exact)
        grown = ratio / np.log(self.far / exact) * (count - exact)
        far = jnp.minimum(exact + grown.astype(jnp.int32), count - 1)
        bucket = ahead + jnp.where(distance < exact, distance, far)
        return jnp.moveaxis(table[bucket], -1, 0)


def as_model(config, weights, max_length=512):
    """Return T5 as a jaxdecode model; max_length counts prompt and output together."""
    graph, state = nnx.split(T5(config, weights))
    sizes = Sizes(config)

    def init_cache(rows, length):
        empty = jnp.zeros((rows, length, *sizes.cache))
        return [(empty, empty)] * sizes.layers

    return jd.from_encoder_decoder(
        lambda state, *given: nnx.merge(graph, state).encode(*given),
        lambda state, *given: nnx.merge(graph, state).decode(*given),
        state,
        vocab_size=config["vocab_size"],
        max_length=max_length,
        init_cache=init_cache,
        start_id=config["decoder_start_token_id"],
    )


def load(folder):
    """Return the config and the weights of a folder."""
    from safetensors.numpy import load_file

    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "model.safetensors")
    return config, {name: np.asarray(w, np.float32) for name, w in weights.items()}


def main(argv=None):
    """Print the greedy text of a prompt, and the best of a beam search."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--prompt", type=int, nargs="+", required=True, metavar="ID")
    parser.add_argument("--beams", type=int, default=4)
    parser.add_argument("--max-new-tokens", type=int, default=32)
    options = parser.parse_args(argv)
    for name in ("config.json", "model.safetensors"):
        if not (options.folder / name).is_file():
            parser.error(f"there is no file {options.folder / name}")
    config, weights = load(options.folder)
    model, prompts = as_model(config, weights), [[*options.prompt]]
    asked = {
        "max_new_tokens": options.max_new_tokens,
        "eos_ids": config["eos_token_id"],
    }
    greedy = jd.joint(temperature=0.0)
    out = jd.generate(model, prompts, 0, sampler=greedy, **asked)
    beams = jd.beam_search(model, prompts, num_beams=options.beams, **asked)
    written = [row[:n].tolist() for row, n in zip(out.tokens, out.lengths, strict=True)]
    best = beams.tokens[0, 0, : int(beams.lengths[0, 0])].tolist()
    print("greedy", *written[0])
    print("beams ", *best)
    return written[0], best


if __name__ == "__main__":
    main()
