"""What share of a decode step is the choice of the token?

A compiled loop of draws, with everything that a step of `generate` does for the choice:
step keys, edits, the draw, both log-probabilities, and the links' counts. Beside it, a
whole step of `generate` on the default model, the choice (top-k + top-p + temperature)
included. Logits have the shape that language models give, and V is the model's.

    python benchmarks/sampling_share.py --batches 1 8 32 --rounds 7
"""

import argparse
import functools

import jax
import jax.numpy as jnp
import measure
from models import PRECISIONS, model_of
from sampler import keys_of, rows_of

import jaxdecode as jd
from jaxdecode.measure import measure_decoding
from jaxdecode.sampling import draw, over_rows
from jaxdecode.transforms import Context, Drawn

DRAWS, PROMPT, COLUMNS = 48, 16, 80
CUTS = {"top_k": 50, "top_p": 0.9, "temperature": 0.8}
MODES = {
    "greedy": {"temperature": 0.0},
    "plain": {},
    "top-k 50": {"top_k": 50},
    "top-p 0.9": {"top_p": 0.9},
    "top-k, top-p, temperature": CUTS,
    "all penalties and these": CUTS
    | {"repetition_penalty": 1.1, "frequency_penalty": 0.1, "presence_penalty": 0.1},
}


def main() -> None:
    """Measure every batch and mode, then a step in each precision."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8, 32])
    parser.add_argument("--dtypes", nargs="+", default=list(PRECISIONS))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--no-save", action="store_true")
    measure.plot_option(parser)
    options = parser.parse_args()
    rows = [row for batch in options.batches for row in _measure(options, batch)]
    extra = {"rounds": options.rounds, "draws": DRAWS}
    measure.report(
        "sampling_share", rows, save=not options.no_save, plot=options.plot, **extra
    )


def _measure(options, batch: int) -> list[dict]:
    models = {dtype: model_of(None, dtype) for dtype in options.dtypes}
    vocab_size = next(iter(models.values())).vocab_size
    logits = jnp.asarray(rows_of("peaked", batch, vocab_size))
    loops = {
        mode: functools.partial(_run, jax.jit(_loop), jd.joint(**settings), logits)
        for mode, settings in MODES.items()
    }
    for loop in loops.values():
        loop()
    draws = measure.interleave(loops, options.rounds)
    steps = {
        dtype: measure_decoding(
            model,
            batch=batch,
            context=PROMPT,
            new_tokens=COLUMNS - PROMPT,
            rounds=options.rounds,
            bandwidth=1.0,
        ).step_ms
        for dtype, model in models.items()
    }
    rows = []
    for mode in MODES:
        ms = 1e3 * draws.median(mode) / DRAWS
        row = {"batch": batch, "mode": mode, "ms": ms}
        for dtype, step in steps.items():
            row |= {f"{dtype} step, ms": step, f"% of {dtype}": 100 * ms / step}
        rows.append(row)
    return rows


def _run(loop, sampler, logits):
    return jax.block_until_ready(loop(sampler.per_row(logits.shape[0]), logits))


def _loop(chain, logits):
    batch, vocab_size = logits.shape
    prompt = jnp.full((batch,), PROMPT, jnp.int32)

    def context(tokens, lengths, step):
        return Context(tokens, lengths, prompt, keys_of(step, batch), vocab_size)

    def update(one, states, token, logprob, row):
        return one.update(states, Drawn(token=token, logprob=logprob, context=row))

    def body(step, carry):
        tokens, lengths, states, total = carry
        # Tied to the last tokens, the logits are new to each step, as in decoding.
        new, tokens = jax.lax.optimization_barrier((logits, tokens))
        past = context(tokens, lengths, step)
        drawn = draw(chain, new, past, states, own=True)
        states = over_rows(update, chain, states, drawn.token, drawn.logprob, past)
        tokens = tokens.at[jnp.arange(batch), lengths].set(drawn.token)
        return tokens, lengths + 1, states, total + drawn.logprob + drawn.own_logprob

    tokens = jnp.zeros((batch, COLUMNS), jnp.int32)
    begin = over_rows(lambda one, row: one.init(row), chain, context(tokens, prompt, 0))
    total = jnp.zeros((batch,), jnp.float32)
    return jax.lax.fori_loop(0, DRAWS, body, (tokens, prompt, begin, total))[0]


if __name__ == "__main__":
    main()
