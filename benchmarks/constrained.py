"""What do patterns cost: to build, to hold, and at every step?

For patterns of several sizes over the default model's vocabulary: the time from pattern
to tables with nothing stored, the bytes of the tables, and the time of mask and
transition in a compiled loop, beside the decoding step of the model in bfloat16. Where
llguidance and xgrammar are installed, their host cost of a mask per step stands beside.
"""

import argparse
import importlib.util
import json
import time

import jax
import jax.numpy as jnp
import numpy as np
from measure import interleave, plot_option, report

import jaxdecode as jd
from jaxdecode.sampling import init_rows, process, update_rows
from jaxdecode.transforms import Context, Drawn, chain
from jaxdecode.transforms.patterns import compiling, store

STRING, UUID = {"type": "string"}, {"type": "string", "format": "uuid"}
FIELDS = [
    {"type": "string", "maxLength": 40},
    UUID,
    {"type": "string", "format": "date-time"},
    {"type": "integer", "minimum": -5, "maximum": 1000},
    {"type": ["number", "null"]},
]


def schema(properties, optional=0):
    """Return the schema of an object; every `optional`-th property may be left out."""
    names = list(properties)
    required = [n for i, n in enumerate(names) if not optional or i % optional]
    return {"type": "object", "properties": properties, "required": required}


PERSON = schema(
    {
        "name": STRING,
        "age": {"type": "integer", "minimum": 0, "maximum": 130},
        "city": STRING,
        "tags": {"type": "array", "items": STRING, "maxItems": 5},
        "active": {"type": "boolean"},
    }
)
LARGE = schema({f"field_{i}": FIELDS[i % 5] for i in range(20)}, optional=3)
KINDS = {
    "date": ("regex", r"\d{4}-\d{2}-\d{2}"),
    "email": ("regex", r"[\w.+-]+@\w+(\.\w+)+"),
    "phone": ("regex", r"(\+\d{1,3} )?(\(\d{3}\) |\d{3}-)\d{3}-\d{4}"),
    "sql": ("regex", r"SELECT \w+(, \w+)* FROM \w+( WHERE \w+ (=|<|>) \d+)?"),
    "JSON, 5 fields": ("schema", PERSON),
    "JSON, 20 fields": ("schema", LARGE),
    "choice of 1000": ("choices", [f"{n * 7919 % 9973:04d} name" for n in range(1000)]),
}
MAKERS = {"regex": jd.Regex, "schema": jd.JsonSchema, "choices": jd.Choice}


def build(kind, pattern, lm):
    """Return the link and the seconds it took, with nothing stored."""
    compiling._compiled.cache_clear()
    begin = time.perf_counter()
    link = MAKERS[kind](pattern, lm)
    return link, time.perf_counter() - begin


def step_time(link, batch, vocab_size, steps):
    """Return a function that takes `steps` masks and transitions, compiled."""
    links = chain(link).per_row(batch) if link else chain().per_row(batch)
    rows = np.random.default_rng(0).normal(size=(batch, vocab_size)).astype(np.float32)

    @jax.jit
    def run(links, rows):
        def contexts(step):
            def count(value):
                return jnp.full((batch,), value, jnp.int32)

            tokens = jnp.zeros((batch, 1), jnp.int32)
            return Context(tokens, count(step), count(0), None, vocab_size, count(4096))

        def one(carry, step):
            states, rows = carry
            done = process(links, rows, contexts(step), states)
            token = jnp.full((batch,), step * 7919 % vocab_size, jnp.int32)
            known = Drawn(token, jnp.zeros(batch), contexts(step))
            best = jnp.max(done, axis=1)
            rows = rows.at[:, 0].add(best * 1e-9)  # no step is like the last
            return (update_rows(links, states, known), rows), best

        start = (init_rows(links, contexts(jnp.int32(0))), rows)
        return jax.lax.scan(one, start, jnp.arange(steps, dtype=jnp.int32))[1]

    return lambda: jax.block_until_ready(run(links, rows))


def model_step(lm, batch, steps):
    """Return a function that writes `steps` tokens with the model."""
    prompts = [lm.encode("Once upon a time")] * batch
    options = {"sampler": jd.joint(temperature=0), "max_new_tokens": steps}
    return lambda: jd.generate(
        lm.model, prompts, 0, **options
    ).tokens.block_until_ready()


def llguidance_step(kind, pattern, lm, steps):
    """Return microseconds of a mask and a token on the host, or None."""
    if importlib.util.find_spec("llguidance") is None or kind == "choices":
        return None
    import llguidance
    from llguidance.numpy import allocate_token_bitmask, fill_next_token_bitmask

    class Vocabulary:
        eos_token_id, bos_token_id = lm.eos_ids[0], None
        tokens = tuple(
            t or f"\xff<{i}>".encode("latin-1")
            for i, t in enumerate(lm.tokenizer.token_bytes)
        )
        special_token_ids = tuple(sorted(lm.tokenizer.special_ids))

        def __call__(self, text):
            return lm.encode(text if isinstance(text, str) else text.decode())

    wrapper = llguidance.TokenizerWrapper(Vocabulary())
    tokenizer = llguidance.LLTokenizer(wrapper, n_vocab=len(Vocabulary.tokens))
    of = llguidance.LLMatcher
    make = of.grammar_from_regex if kind == "regex" else of.grammar_from_json_schema
    matcher = of(tokenizer, make(pattern if kind == "regex" else json.dumps(pattern)))
    bits = allocate_token_bitmask(1, len(Vocabulary.tokens))
    ids = np.arange(len(Vocabulary.tokens))
    rng, spent = np.random.default_rng(0), 0.0
    for _ in range(steps):
        begin = time.perf_counter()
        fill_next_token_bitmask(matcher, bits)
        spent += time.perf_counter() - begin
        fits = (bits[0].view(np.uint32)[ids // 32] >> (ids % 32).astype(np.uint32)) & 1
        token = int(rng.choice(np.flatnonzero(fits)))
        begin = time.perf_counter()
        matcher.consume_token(token)
        spent += time.perf_counter() - begin
        if token == lm.eos_ids[0]:
            matcher.reset()
    return spent / steps * 1e6


def xgrammar_step(kind, pattern, lm, steps):
    """Return microseconds of a mask and a token on the host, or None."""
    if importlib.util.find_spec("xgrammar") is None or kind == "choices":
        return None
    import xgrammar as xgr

    pieces = [t or f"<{i}>".encode() for i, t in enumerate(lm.tokenizer.token_bytes)]
    info = xgr.TokenizerInfo(pieces, stop_token_ids=list(lm.eos_ids))
    compiler = xgr.GrammarCompiler(info)
    is_regex = kind == "regex"
    make = compiler.compile_regex if is_regex else compiler.compile_json_schema
    matcher = xgr.GrammarMatcher(make(pattern if is_regex else json.dumps(pattern)))
    bits = xgr.allocate_token_bitmask(1, info.vocab_size)
    ids, rng, spent = np.arange(info.vocab_size), np.random.default_rng(0), 0.0
    for _ in range(steps):
        begin = time.perf_counter()
        matcher.fill_next_token_bitmask(bits)
        spent += time.perf_counter() - begin
        words = bits[0].numpy().view(np.uint32)
        fits = (words[ids // 32] >> (ids % 32).astype(np.uint32)) & 1
        token = int(rng.choice(np.flatnonzero(fits)))
        begin = time.perf_counter()
        matcher.accept_token(token)
        spent += time.perf_counter() - begin
        if matcher.is_terminated():
            matcher.reset()
    return spent / steps * 1e6


def measure_batch(found, links, lm, batch, steps, repeats):
    """Add what a step of each pattern costs beyond the same loop without one."""
    bare = {"none": step_time(None, batch, lm.model.vocab_size, steps)}
    runs = {
        n: step_time(k, batch, lm.model.vocab_size, steps) for n, k in links.items()
    }
    model = {"model": model_step(lm, batch, steps)}
    times = interleave({**bare, **runs, **model}, repeats)
    whole = times.median("model") / steps
    for name in links:
        extra = (times.median(name) - times.median("none")) / steps
        found[name][f"batch {batch}, us"] = round(extra * 1e6, 1)
        found[name][f"batch {batch}, % of a step"] = round(100 * extra / whole, 2)


def main():
    """Print the table, then one line of JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, nargs="*", default=[1, 8, 32])
    parser.add_argument("--steps", type=int, default=64)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--kinds", nargs="*", default=list(KINDS))
    parser.add_argument("--dry", action="store_true", help="keep no result")
    plot_option(parser)
    args = parser.parse_args()
    store.read, store.write = (lambda key: None), (lambda key, arrays: None)
    lm = jd.load("smollm2-135m", dtype="bfloat16")
    jd.Regex("a", lm)  # the trie of the vocabulary, once
    found, links = {}, {}
    for name in args.kinds:
        kind, pattern = KINDS[name]
        links[name], _ = build(kind, pattern, lm)
        seconds = min(build(kind, pattern, lm)[1] for _ in range(args.repeats))
        size = sum(np.asarray(x).nbytes for x in jax.tree.leaves(links[name]))
        found[name] = {"build, ms": round(seconds * 1e3, 1), "MB": round(size / 1e6, 2)}
        for peer, step in {
            "llguidance": llguidance_step,
            "xgrammar": xgrammar_step,
        }.items():
            cost = step(kind, pattern, lm, args.steps)
            found[name][f"{peer}, us"] = None if cost is None else round(cost, 1)
    for batch in args.batch:
        measure_batch(found, links, lm, batch, args.steps, args.repeats)
    rows = [{"pattern": name, **values} for name, values in found.items()]
    report("constrained", rows, save=not args.dry, plot=args.plot)


if __name__ == "__main__":
    main()
