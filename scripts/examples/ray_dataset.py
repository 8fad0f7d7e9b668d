"""A dataset of prompts through Ray: JSONL or Parquet in, the same with texts out.

One engine per actor. Rows stream through the actors, and an actor that is lost is
replaced by Ray; a text depends on its row and seed only, so none comes out differently.
Rows need a column of prompts; columns seed, max_new_tokens, temperature and so on count
where they are there. Needs `pip install "jaxdecode[ray]"`.

    python scripts/examples/ray_dataset.py prompts.jsonl texts --actors 2
"""

import argparse
import pathlib

from jaxdecode.ray import Generate


def write_texts(source, target, *, actors, batch, stage=Generate, **options):
    """Read a dataset, write a text for each row, and write the dataset."""
    import ray

    parquet = source.suffix == ".parquet"
    read = ray.data.read_parquet if parquet else ray.data.read_json
    texts = read(str(source)).map_batches(
        stage,
        fn_constructor_kwargs=options,
        batch_size=batch,
        compute=ray.data.ActorPoolStrategy(size=actors),
        num_cpus=1,
    )
    (texts.write_parquet if parquet else texts.write_json)(str(target))


def main(argv=None):
    """Read options, run the dataset."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=pathlib.Path, help=".jsonl or .parquet")
    parser.add_argument("target", type=pathlib.Path, help="folder to write")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--column", default="prompt", help="column of the prompts")
    parser.add_argument("--actors", type=int, default=1, help="engines, >= 1")
    parser.add_argument("--batch", type=int, default=256, help="rows a call, >= 1")
    parser.add_argument("--slots", type=int, default=16, help="rows of an engine")
    parser.add_argument("--max-new-tokens", type=int, default=128)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if not options.source.is_file():
        parser.error(f"there is no file {options.source}")
    for name in ("actors", "batch", "slots", "max_new_tokens"):
        if getattr(options, name) < 1:
            parser.error(f"--{name.replace('_', '-')} must be at least 1")
    write_texts(
        options.source,
        options.target,
        actors=options.actors,
        batch=options.batch,
        model=options.model,
        column=options.column,
        slots=options.slots,
        max_new_tokens=options.max_new_tokens,
        sampling={"temperature": options.temperature},
        seed=options.seed,
    )
    print(f"texts in {options.target}")


if __name__ == "__main__":
    main()
