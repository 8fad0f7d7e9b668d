"""Write what `transformers` makes of the tiny models.

Run `python -m tests.families.make_golden` where the extra `peers` is. It writes
`tests/golden/families.json` (the options that transformers saves, the names and shapes of
the tensors, greedy tokens) and `families.npz` (logits).
"""

import json
import pathlib
import tempfile

import numpy as np
import torch
import transformers
from safetensors.numpy import load_file, save_file

from tests.families.cases import CASES, NEW, prompts, weights

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"


def stored_shapes(config):
    """Return the names and shapes of the tensors that transformers saves."""
    model = transformers.AutoModelForCausalLM.from_config(config)
    with tempfile.TemporaryDirectory() as folder:
        model.save_pretrained(folder)
        stored = load_file(f"{folder}/model.safetensors")
        raw = json.loads((pathlib.Path(folder) / "config.json").read_text())
    return {name: list(array.shape) for name, array in stored.items()}, raw


def run(raw, lengths):
    """Return the saved options, the shapes, and what the model says of prompts."""
    config = transformers.AutoConfig.for_model(**raw)
    shapes, saved = stored_shapes(config)
    with tempfile.TemporaryDirectory() as folder:
        is_offset = raw["model_type"].startswith("gemma")
        save_file(weights(shapes, is_offset), f"{folder}/model.safetensors")
        (pathlib.Path(folder) / "config.json").write_text(json.dumps(saved))
        model = transformers.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, attn_implementation="eager"
        ).eval()
        logits, texts = [], []
        for prompt in prompts(lengths):
            ids = torch.tensor([prompt])
            with torch.no_grad():
                logits.append(model(ids).logits[0].numpy())
                text = model.generate(
                    ids,
                    max_new_tokens=NEW,
                    do_sample=False,
                    eos_token_id=None,
                    pad_token_id=0,
                )
            texts.append(text[0, len(prompt) :].tolist())
    return saved, shapes, logits, texts


def main():
    """Write both files."""
    table, arrays = {}, {}
    for name, (raw, lengths) in CASES.items():
        saved, shapes, logits, texts = run(raw, lengths)
        saved.pop("transformers_version", None)
        table[name] = {"config": saved, "shapes": shapes, "greedy": texts}
        for index, found in enumerate(logits):
            arrays[f"{name}.{index}"] = found.astype(np.float32)
        print(
            name, len(shapes), [round(float(np.abs(x).max()), 2) for x in logits], texts
        )
    (GOLDEN / "families.json").write_text(
        json.dumps(table, separators=(",", ":")) + "\n"
    )
    np.savez_compressed(GOLDEN / "families.npz", **arrays)


if __name__ == "__main__":
    main()
