"""Encoder-decoder models (T5, BART, Whisper): the prompt is read once by the encoder.

What the encoder made lies in the cache, a row each, so that it is repeated for samples
and moved with beams like everything else. The decoder's own positions count from its
start token: position 0 is the start, and token j of the output stands at j + 1.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jaxdecode.core.functions import Alike
from jaxdecode.core.pytree import pytree, replace, static
from jaxdecode.models.adapters import as_logits, check_sizes
from jaxdecode.models.columns import take_column


@pytree
class EncodedCache:
    """What B rows remember.

    Attributes:
      states: what the encoder made of each prompt; leaves [B, T, ...].
      lengths: int32 [B], the prompts' lengths.
      decoder: the decoder's cache, row axis first.
    """

    states: Any
    lengths: jax.Array
    decoder: Any


@pytree
class EncoderDecoder:
    """An encoder and a decoder, as a model; made by `from_encoder_decoder`.

    Args:
      params: what both functions take first; any pytree.
      encode: `(params, tokens, mask) -> states`.
      decode: `(params, tokens, positions, cache, states, mask) -> (logits, cache)`.
      make_cache: `(rows, length) -> cache` of the decoder.
      start_id: the token that the decoder begins with.
      vocab_size: number of token ids.
      max_length: prompt and output together.
    """

    params: Any
    encode: Callable[..., Any] = static()
    decode: Callable[..., Any] = static()
    make_cache: Callable[[int, int], Any] = static()
    start_id: int = static()
    vocab_size: int = static()
    max_length: int = static()

    def __post_init__(self):
        check_sizes(self)

    def init_cache(self, rows: int, length: int) -> EncodedCache:
        """Return an empty cache for prompts and outputs of `length` tokens together."""
        tokens = jax.ShapeDtypeStruct((rows, length), jnp.int32)
        mask = jax.ShapeDtypeStruct((rows, length), jnp.bool)
        made = jax.eval_shape(self.encode, self.params, tokens, mask)
        return EncodedCache(
            states=jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), made),
            lengths=jnp.zeros((rows,), jnp.int32),
            decoder=self.make_cache(rows, length + 1),
        )

    def read_prompts(
        self, prompts: Any, cache: EncodedCache, *, reversible: bool
    ) -> tuple[jax.Array, EncodedCache]:
        """Encode the prompts and read the start token; return the logits after it."""
        del reversible
        tokens, lengths = jnp.asarray(prompts.tokens), jnp.asarray(prompts.lengths)
        rows, columns = tokens.shape
        mask = jnp.arange(columns, dtype=jnp.int32)[None] < lengths[:, None]
        made = self.encode(self.params, tokens, mask)

        def put(kept, new):
            return jax.lax.dynamic_update_slice(kept, new, (0,) * kept.ndim)

        states = jax.tree.map(put, cache.states, made)
        cache = replace(cache, states=states, lengths=lengths)
        start = jnp.full((rows, 1), self.start_id, jnp.int32)
        logits, cache = self._decode(start, jnp.zeros_like(start), cache)
        return logits[:, 0], cache

    def __call__(
        self,
        tokens: jax.Array,
        positions: jax.Array,
        cache: EncodedCache,
        *,
        at: jax.Array | None = None,
    ) -> tuple[jax.Array, EncodedCache]:
        """Read output tokens [B, S]; return float32 logits [B, S, V] ([B, V] with `at`).

        A position before the end of a row's prompt is the decoder's start.
        """
        own = positions - cache.lengths[:, None] + 1
        tokens = jnp.where(own <= 0, self.start_id, tokens)
        logits, cache = self._decode(tokens, jnp.maximum(own, 0), cache)
        return logits if at is None else take_column(logits, at), cache

    def _decode(self, tokens, positions, cache):
        length = jax.tree.leaves(cache.states)[0].shape[1]
        mask = jnp.arange(length, dtype=jnp.int32)[None] < cache.lengths[:, None]
        given = tokens, positions, cache.decoder, cache.states, mask
        logits, decoder = self.decode(self.params, *given)
        wanted = (*tokens.shape, self.vocab_size)
        logits = as_logits("from_encoder_decoder", logits, wanted)
        return logits, replace(cache, decoder=decoder)


def from_encoder_decoder(
    encode: Callable[..., Any],
    decode: Callable[..., Any],
    params: Any,
    *,
    vocab_size: int,
    max_length: int,
    init_cache: Callable[[int, int], Any],
    start_id: int,
) -> EncoderDecoder:
    """Wrap an encoder and a decoder: prompts are what is encoded, once each.

    Generated tokens, their budget, stops and penalties concern the output only;
    `jaxdecode.score` scores outputs given inputs.

    Args:
      encode: `(params, tokens [B, P], mask bool [B, P]) -> states`, a pytree of arrays
        [B, P, ...]; the mask says which tokens are real.
      decode: `(params, tokens [B, S], positions [B, S], cache, states, mask [B, T]) ->
        (logits [B, S, V], cache)`; positions begin with 0, the start token.
      params: the first argument of both, any pytree of arrays.
      vocab_size: number of token ids, V.
      max_length: input and output tokens together.
      init_cache: `(rows, length) -> cache` of the decoder's own attention, row axis
        first, for `length` of its positions.
      start_id: the token that the decoder begins with, in [0, V - 1].

    Returns:
      A pytree with the `Model` protocol, which reads prompts itself.
    """
    return EncoderDecoder(
        params=params,
        encode=Alike(encode),
        decode=Alike(decode),
        make_cache=Alike(init_cache),
        start_id=start_id,
        vocab_size=vocab_size,
        max_length=max_length,
    )
