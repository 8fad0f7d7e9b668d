"""What do links cost that look at a long history: DRY, n-grams, sequences, windows?

Each link runs as in the decode loop: `draw` with an otherwise plain chain, then `update`,
inside a scan whose carry holds tokens, lengths and states, on a history that begins with
8192 tokens. Reported is the time of a step beyond that of the same scan without the
link; the target is below 3 ms. Repetition cannot stop the clock: all rows run on.
"""

import argparse
import time

import jax
import jax.numpy as jnp
import numpy as np
from measure import interleave, plot_option, report

import jaxdecode as jd
from jaxdecode.core.pytree import replace
from jaxdecode.sampling import draw, over_rows
from jaxdecode.transforms import Chain, Context, Drawn

TARGET_MS = 3.0


def links(rng):
    """Return {name: link}; the empty chain is what the others are compared with."""
    words = [rng.integers(0, 64, size=rng.integers(1, 6)).tolist() for _ in range(200)]
    return {
        "none": None,
        "DRY": jd.DRY(0.8, 1.75, 2, breakers=[13, 198]),
        "DRY window=1024": jd.DRY(0.8, 1.75, 2, window=1024, breakers=[13, 198]),
        "NoRepeatNGram(4)": jd.NoRepeatNGram(4),
        "BanSequences, 200": jd.BanSequences(words),
        "SequenceBias, 200": jd.SequenceBias([(word, -1.0) for word in words]),
        "FrequencyPenalty": jd.FrequencyPenalty(0.2, count_prompt=True),
        "FrequencyPenalty window=64": jd.FrequencyPenalty(
            0.2, count_prompt=True, window=64
        ),
        "RepetitionPenalty": jd.RepetitionPenalty(1.1),
        "Watermark": jd.Watermark(2.0),
    }


def start(chain: Chain, tokens, length: int, vocab_size: int):
    """Return contexts and states of all rows after `length` tokens."""
    rows = tokens.shape[0]
    contexts = Context(
        tokens=tokens,
        length=jnp.full(rows, length, jnp.int32),
        prompt_length=jnp.full(rows, length // 2, jnp.int32),
        key=jax.random.split(jax.random.key(0), rows),
        vocab_size=vocab_size,
    )
    return contexts, over_rows(lambda c, x: c.init(x), chain, contexts)


def run(chain: Chain, logits, contexts, states, steps: int):
    """Draw `steps` tokens per row; return them, so that nothing is left out."""
    rows = jnp.arange(logits.shape[0])

    def step(carry, _):
        contexts, states = carry
        drawn = draw(chain, logits, contexts, states)
        said = Drawn(token=drawn.token, logprob=drawn.logprob, context=contexts)
        states = over_rows(lambda c, s, d: c.update(s, d), chain, states, said)
        tokens = contexts.tokens.at[rows, contexts.length].set(drawn.token)
        keys = jax.vmap(jax.random.fold_in)(contexts.key, contexts.length)
        moved = replace(contexts, tokens=tokens, length=contexts.length + 1, key=keys)
        return (moved, states), drawn.token

    return jax.lax.scan(step, (contexts, states), None, length=steps)[1]


def build(link, args, tokens, logits):
    """Compile one variant; return what runs it, and what starting and compiling took."""
    chain = jd.chain(*([] if link is None else [link])).per_row(args.batch)
    fresh = jax.jit(start, static_argnums=(2, 3))
    stepped = jax.jit(run, static_argnums=4)
    begin = time.perf_counter()
    fresh = fresh.lower(chain, tokens, args.history, args.vocab).compile()
    contexts, states = fresh(chain, tokens)
    stepped = stepped.lower(chain, logits, contexts, states, args.steps).compile()
    compile_s = time.perf_counter() - begin

    def begun():
        return jax.block_until_ready(fresh(chain, tokens))

    def go_on():
        return jax.block_until_ready(stepped(chain, logits, contexts, states))

    return begun, go_on, compile_s


def main():
    """Run every variant in turn, round after round, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--vocab", type=int, default=49152)
    parser.add_argument("--history", type=int, default=8192)
    parser.add_argument("--steps", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=15)
    plot_option(parser)
    args = parser.parse_args()

    rng = np.random.default_rng(0)
    shape = (args.batch, args.history + args.steps)
    tokens = jnp.asarray(rng.integers(0, 4, shape), jnp.int32)  # repeats a lot
    logits = jnp.asarray(rng.normal(size=(args.batch, args.vocab)), jnp.float32)
    built = {
        name: build(link, args, tokens, logits) for name, link in links(rng).items()
    }
    starts = interleave({name: parts[0] for name, parts in built.items()}, 3)
    steps = interleave({name: parts[1] for name, parts in built.items()}, args.rounds)

    rows = []
    for name, (_, _, compile_s) in built.items():
        pairs = zip(steps.seconds[name], steps.seconds["none"], strict=True)
        extra = np.asarray([a - b for a, b in pairs]) * 1e3 / args.steps
        low, high = np.quantile(extra, [0.25, 0.75])
        rows.append(
            {
                "link": name,
                "step_ms": 1e3 * steps.median(name) / args.steps,
                "link_ms": float(np.median(extra)),
                "quartiles_ms": f"{low:.2f} to {high:.2f}",
                "start_ms": 1e3 * starts.median(name),
                "compile_s": compile_s,
            }
        )
    worst = max(row["link_ms"] for row in rows)
    report(
        "history",
        rows,
        plot=args.plot,
        **{name: value for name, value in vars(args).items() if name != "plot"},
        target_ms=TARGET_MS,
        worst_ms=worst,
        meets_target=worst < TARGET_MS,
    )


if __name__ == "__main__":
    main()
