"""How fast is one draw from logits, against the usual ways to write it?

Each way runs in a compiled loop of up to 64 draws, fresh keys at every step; slow ones
make fewer draws a round, and all times are per draw. Tokens are compared with
`jax.random.categorical` on the processed row: ours must equal all of them, a peer may
differ at ties and where its own arithmetic cuts elsewhere. Run on CPU or a GPU:

    python benchmarks/sampler.py --vocabs 131072 --batches 16 --rounds 5
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import measure
import numpy as np
import samplers_as_written as written

import jaxdecode as jd
from jaxdecode.sampling import draw, init_rows
from jaxdecode.transforms import Context

STEPS = 64
ROUND_S = 0.3  # a variant makes as many draws a round as fit into this, up to STEPS
K, P, T = 50, 0.9, 0.8
MODES = {
    "top-k 50, top-p 0.9, t 0.8": (
        {"top_k": K, "top_p": P, "temperature": T},
        {
            "two sorts": functools.partial(written.two_sorts, k=K, p=P, t=T),
            "lax.top_k": functools.partial(written.lax_top_k, k=K, p=P, t=T),
        },
    ),
    "top-p 0.9": (
        {"top_p": P},
        {
            "two sorts": functools.partial(written.two_sorts, k=None, p=P, t=1.0),
            "bisection": functools.partial(written.bisection, p=P),
        },
    ),
    "plain": ({}, {"categorical": written.categorical}),
    "greedy": ({"temperature": 0.0}, {"argmax": written.argmax}),
}
# At V = 131072 and 16 peaked rows on CPU: how many times as fast ours should be.
GOALS = {"two sorts": 200, "lax.top_k": 15, "bisection": 8, "categorical": 6}
GOALS |= {"argmax": 4, "top-p 0.9/two sorts": 8}


def rows_of(kind: str, batch: int, vocab_size: int) -> np.ndarray:
    """Return logits [B, V]; `peaked` has the shape that language models give."""
    rng = np.random.default_rng(0)
    noise = rng.normal(size=(batch, vocab_size))
    head = np.linspace(16, 0, 200) + rng.normal(size=(batch, 200))
    peaked = rng.permuted(np.concatenate([head, 1.5 * noise[:, 200:] - 4], 1), axis=1)
    banned = rng.random(peaked.shape) < 0.9
    made = {
        "normal": 3 * noise,
        "peaked": peaked,
        "flat": 0.05 * noise,
        "tied": np.round(2 * peaked) / 2,
        "masked": np.where(banned, -np.inf, peaked),
    }
    return made[kind].astype(np.float32)


def ours(settings, batch: int, vocab_size: int):
    """Return our draw as a function of (logits, keys)."""
    chain = jd.joint(**settings).per_row(batch)

    def step(logits, keys):
        lengths = jnp.zeros((batch,), jnp.int32)
        contexts = Context(
            tokens=jnp.zeros((batch, 1), jnp.int32),
            length=lengths,
            prompt_length=lengths,
            key=keys,
            vocab_size=vocab_size,
        )
        states = init_rows(chain, contexts)
        return draw(chain, logits, contexts, states).token

    return step


def keys_of(step, batch: int):
    """Return the step keys of a batch."""
    rows = jax.vmap(jax.random.fold_in, (None, 0))(jax.random.key(0), jnp.arange(batch))
    return jax.vmap(jax.random.fold_in, (0, None))(rows, step)


def compiled(function, logits):
    """Compile a loop of draws; return what runs it, and the seconds that took."""

    def loop(logits, draws):
        def body(step, tokens):
            # Tied to the last tokens, the logits are new to each step, as in decoding.
            new, tokens = jax.lax.optimization_barrier((logits, tokens))
            drawn = function(new, keys_of(step, logits.shape[0]))
            return tokens.at[step].set(drawn.astype(jnp.int32))

        blank = jnp.zeros((STEPS, logits.shape[0]), jnp.int32)
        return jax.lax.fori_loop(0, draws, body, blank)

    begin = time.perf_counter()
    run = jax.jit(loop).lower(logits, jnp.int32(1)).compile()
    seconds = time.perf_counter() - begin

    def repeat(draws: int):
        return jax.block_until_ready(run(logits, jnp.int32(draws)))

    return repeat, seconds


def variants_of(mode: str, logits):
    """Return {name: (function of a number of draws, seconds of compilation)}."""
    settings, peers = MODES[mode]
    functions = {"ours": ours(settings, *logits.shape), **peers}
    built = {name: compiled(f, logits) for name, f in functions.items()}
    if mode != "greedy" and mode != "plain":
        try:
            k = settings.get("top_k")
            t = settings.get("temperature", 1.0)
            built["torch"] = written.in_torch(np.asarray(logits), k, P, t), None
        except ImportError:
            print("missing: torch (pip install torch)")
    return built


def measured(mode: str, kind: str, batch: int, vocab_size: int, rounds: int):
    """Measure one mode on one kind of rows; return rows of the table."""
    logits = jnp.asarray(rows_of(kind, batch, vocab_size))
    built = variants_of(mode, logits)
    draws = {}
    for name, (repeat, _) in built.items():
        repeat(1)
        begin = time.perf_counter()
        repeat(1)
        fitting = ROUND_S / (time.perf_counter() - begin)
        draws[name] = int(np.clip(fitting, 1, STEPS))
    runs = {n: functools.partial(f, draws[n]) for n, (f, _) in built.items()}
    timings = measure.interleave(runs, rounds)
    wanted = expected(MODES[mode][0], logits, max(draws.values()))
    return [
        {
            "mode": mode,
            "rows": kind,
            "V": vocab_size,
            "B": batch,
            "who": name,
            "ms": 1e3 * timings.median(name) / draws[name],
            "theirs / ours": ratio(timings, draws, name),
            "equal": equal(built[name][0], wanted, draws[name], name),
            "compile_s": built[name][1],
        }
        for name in built
    ]


def ratio(timings, draws, name: str) -> float | None:
    """Return how many times as long a peer takes for a draw, median over rounds."""
    if name == "ours":
        return None
    return timings.ratio(name, "ours") * draws["ours"] / draws[name]


def expected(settings, logits, draws: int) -> np.ndarray:
    """Return the tokens by contract: categorical on the processed rows."""
    processed = jd.apply(jd.joint(**settings), logits)
    each = jax.jit(lambda rows, keys: jax.vmap(jax.random.categorical)(keys, rows))
    steps = [each(processed, keys_of(s, logits.shape[0])) for s in range(draws)]
    return np.stack(steps)


def equal(repeat, wanted: np.ndarray, draws: int, name: str) -> str | None:
    """Return how many tokens are those of the contract, out of how many."""
    if name == "torch":  # draws with keys of its own
        return None
    got = np.asarray(repeat(draws))[:draws]
    same = int((got == wanted[:draws]).sum())
    assert name != "ours" or same == got.size, "our tokens differ from categorical"
    return f"{same}/{got.size}"


def goals(rows) -> list[dict]:
    """Return each goal beside what was reached."""
    reached = []
    for row in rows:
        goal = GOALS.get(f"{row['mode']}/{row['who']}", GOALS.get(row["who"]))
        if goal and (row["rows"], row["V"], row["B"]) == ("peaked", 131072, 16):
            times = row["theirs / ours"]
            met = {"goal": goal, "reached": times, "met": times >= goal}
            reached.append({"mode": row["mode"], "who": row["who"], **met})
    return reached


def main() -> None:
    """Measure every wanted combination and report."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    kinds = ["peaked", "normal", "flat", "tied", "masked"]
    parser.add_argument("--vocabs", type=int, nargs="+", default=[131072])
    parser.add_argument("--batches", type=int, nargs="+", default=[16])
    parser.add_argument("--rows", nargs="+", choices=kinds, default=kinds)
    parser.add_argument("--modes", nargs="+", choices=list(MODES), default=list(MODES))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-save", action="store_true")
    measure.plot_option(parser)
    options = parser.parse_args()
    rows = []
    for vocab_size in options.vocabs:
        for batch in options.batches:
            for mode in options.modes:
                for kind in options.rows:
                    new = measured(mode, kind, batch, vocab_size, options.rounds)
                    print(measure.table(new), flush=True)
                    rows += new
    print(measure.table(goals(rows)))
    extra = {"rounds": options.rounds, "steps": STEPS, "goals": goals(rows)}
    measure.report(
        "sampler", rows, save=not options.no_save, plot=options.plot, **extra
    )


if __name__ == "__main__":
    main()
