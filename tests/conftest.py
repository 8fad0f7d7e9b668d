"""What every test runs under: strict promotion, so that a silent cast is an error."""

import jax

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
