"""A file of prompts, one a line, to a JSONL file: a seed for each, whatever its batch.

Every prompt has its own key, named by the seed and its line, so a text does not depend
on the batch size or on what the other lines say. The file is put in place when all texts
are written.

    python scripts/examples/batch_of_prompts.py prompts.txt texts.jsonl --batch 8
"""

import argparse
import json
import pathlib

import jax

import jaxdecode as jd


def write_texts(lm, numbered, *, batch, seed, **options):
    """Yield one dict per (line, prompt), in their order."""
    for start in range(0, len(numbered), batch):
        part = numbered[start : start + batch]
        keys = [jax.random.fold_in(jax.random.key(seed), line) for line, _ in part]
        texts = lm.generate([prompt for _, prompt in part], key=keys, **options)
        for (line, prompt), text in zip(part, texts, strict=True):
            yield {"line": line, "prompt": prompt, "text": text}


def main(argv=None):
    """Read prompts, write texts."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("source", type=pathlib.Path, help="text file, a prompt a line")
    parser.add_argument("target", type=pathlib.Path, help="JSONL file to write")
    parser.add_argument("--model", default="smollm2-135m")
    parser.add_argument("--batch", type=int, default=8, help="prompts at a time, >= 1")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--temperature", type=float, default=0.8)
    parser.add_argument("--top-p", type=float, default=0.95)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args(argv)
    if not options.source.is_file():
        parser.error(f"there is no file {options.source}")
    if options.target.exists() and options.target.samefile(options.source):
        parser.error(f"the target must be another file than {options.source}")
    if options.batch < 1:
        parser.error(f"--batch must be at least 1, got {options.batch}")
    if not options.target.parent.is_dir():
        parser.error(f"there is no folder {options.target.parent}")
    lines = options.source.read_text(encoding="utf-8").splitlines()
    numbered = [(n, line) for n, line in enumerate(lines) if line.strip()]
    part = options.target.with_name(options.target.name + ".part")
    try:
        found = write_texts(
            jd.load(options.model),
            numbered,
            batch=options.batch,
            seed=options.seed,
            sampler=jd.joint(top_p=options.top_p, temperature=options.temperature),
            max_new_tokens=options.max_new_tokens,
        )
        with part.open("w", encoding="utf-8") as file:
            for row in found:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
    except (ValueError, OSError) as error:
        parser.error(str(error))
    part.replace(options.target)
    print(f"{len(numbered)} texts in {options.target}")


if __name__ == "__main__":
    main()
