"""Texts for the rows of a Ray dataset: one engine per actor, the rest is Ray's.

    dataset = ray.data.read_json("prompts.jsonl")
    dataset.map_batches(
        jaxdecode.ray.Generate,
        fn_constructor_kwargs={"model": "smollm2-135m"},
        concurrency=2,
    ).write_parquet("texts")

Streaming, placement, retries and lost actors are Ray's affair: a row's text depends on
the model, the row and its seed only, so it does not matter how often or where it is
made. Needs the extra `ray` for Ray itself; this file imports nothing of it.
"""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

import jaxdecode
from jaxdecode.engine import Engine
from jaxdecode.transforms import joint

SAMPLING = (
    "temperature",
    "top_k",
    "top_p",
    "min_p",
    "repetition_penalty",
    "frequency_penalty",
    "presence_penalty",
)


class Generate:
    """Writes a text for each row of a batch; the class that `map_batches` takes.

    A row may have columns named like the options here (`seed`, `max_new_tokens`,
    `temperature`, ...); they go before these. What comes out has the columns that came
    in, and `text`, `finish_reason`, `prompt_tokens` and `generated_tokens`.

    Args:
      model: what `jaxdecode.load` takes.
      dtype: as in `load`.
      column: the column that holds the prompts, texts.
      seed: names the texts, together with each prompt, of rows without a seed.
      max_new_tokens: >= 1, most tokens of a text.
      sampling: arguments of `jaxdecode.joint`.
      **engine: arguments of `jaxdecode.Engine`: slots, length, chunk, ...
    """

    def __init__(
        self,
        model: Any = "smollm2-135m",
        *,
        dtype: str | None = None,
        column: str = "prompt",
        seed: int = 0,
        max_new_tokens: int = 128,
        sampling: Mapping[str, float] | None = None,
        **engine: Any,
    ):
        loaded = isinstance(model, jaxdecode.LanguageModel)
        lm = model if loaded else jaxdecode.load(model, dtype=dtype)
        self._engine = Engine(lm, **engine)
        self._column, self._seed = column, seed
        self._max_new_tokens, self._sampling = max_new_tokens, dict(sampling or {})

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Return a batch with its texts.

        Args:
          batch: columns of equal length, by name.

        Raises:
          KeyError: if the column of prompts is missing.
          ValueError: for a prompt or an option that the engine refuses.
        """
        count = len(batch[self._column])
        jobs = [self._submit(batch, row) for row in range(count)]
        results = [job.result() for job in jobs]
        return batch | {
            "text": np.asarray([result.text for result in results], object),
            "finish_reason": np.asarray([r.finish_reason for r in results], object),
            "prompt_tokens": np.asarray([r.prompt_tokens for r in results], np.int32),
            "generated_tokens": np.asarray(
                [r.generated_tokens for r in results], np.int32
            ),
        }

    def _submit(self, batch: dict[str, Any], row: int) -> Any:
        prompt = str(batch[self._column][row])
        values = {name: batch[name][row].item() for name in SAMPLING if name in batch}
        longest = batch.get("max_new_tokens")
        budget = self._max_new_tokens if longest is None else int(longest[row])
        return self._engine.submit(
            prompt,
            key=self._seed_of(batch, row, prompt),
            sampler=joint(**self._sampling | values),
            max_new_tokens=budget,
        )

    def _seed_of(self, batch: dict[str, Any], row: int, prompt: str) -> int:
        if "seed" in batch:
            return int(batch["seed"][row])
        named = f"{self._seed}:{prompt}".encode()
        return int.from_bytes(hashlib.blake2b(named, digest_size=4).digest(), "little")
