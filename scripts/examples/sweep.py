"""A reproducible sweep over settings: temperatures x top_p, all in one program.

Settings are data, one per row, so the whole grid is one batch. Every setting uses the
same keys: differences come from the settings, not from the noise.

    python scripts/examples/sweep.py "Once upon a time" --samples 4
"""

import argparse
import itertools

import jax
import numpy as np

import jaxdecode as jd


def sweep(lm, prompt, settings, *, samples, seed, max_new_tokens):
    """Return a dict per (temperature, top_p): mean log-prob and distinct bigrams."""
    temperatures, top_ps = zip(*settings, strict=True)
    key = jax.random.key(seed)
    out = jd.generate(
        lm.model,
        [lm.encode(prompt)] * len(settings),
        jax.numpy.stack([key] * len(settings)),
        sampler=jd.chain(jd.TopP(top_ps), jd.Temperature(temperatures)),
        max_new_tokens=max_new_tokens,
        num_samples=samples,
        eos_ids=lm.eos_ids,
    )
    tokens, lengths = np.asarray(out.tokens), np.asarray(out.lengths)
    logprobs = np.asarray(out.model_logprobs)
    rows = []
    for index, (temperature, top_p) in enumerate(settings):
        own = range(index * samples, (index + 1) * samples)
        texts = [tokens[row, : lengths[row]].tolist() for row in own]
        pairs = [pair for text in texts for pair in itertools.pairwise(text)]
        total = sum(logprobs[row, : lengths[row]].sum() for row in own)
        rows.append(
            {
                "temperature": temperature,
                "top_p": top_p,
                "mean_logprob": float(total / sum(map(len, texts))),
                "distinct_2": len(set(pairs)) / max(len(pairs), 1),
            }
        )
    return rows


def main(argv=None):
    """Print a table of the sweep and return its rows."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("prompt")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument(
        "--temperatures", type=float, nargs="+", default=[0.5, 1.0, 1.5]
    )
    parser.add_argument("--top-ps", type=float, nargs="+", default=[0.8, 1.0])
    parser.add_argument("--samples", type=int, default=4, help="texts per setting")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    try:
        rows = sweep(
            jd.load(options.model),
            options.prompt,
            list(itertools.product(options.temperatures, options.top_ps)),
            samples=options.samples,
            seed=options.seed,
            max_new_tokens=options.max_new_tokens,
        )
    except ValueError as error:  # a setting out of range; the message names it
        parser.error(str(error))
    print("| temperature | top_p | mean log-prob | distinct-2 |\n|---|---|---|---|")
    for row in rows:
        print("| {temperature} | {top_p} | {mean_logprob:.2f} ".format(**row), end="")
        print("| {distinct_2:.2f} |".format(**row))
    return rows


if __name__ == "__main__":
    main()
