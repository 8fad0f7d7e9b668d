"""Write a LoRA adapter as peft saves it, and what the merged model says.

Run `python -m tests.families.make_adapter` where the extra `peers` is. The base is the
tiny model `granite` of `cases.py`; it writes the folder `tests/golden/adapter`.
"""

import json
import pathlib
import tempfile

import numpy as np
import peft
import torch
import transformers
from safetensors.numpy import save_file

from tests.families.cases import CASES, prompts, weights

GOLDEN = pathlib.Path(__file__).parent.parent / "golden"
TABLE = json.loads((GOLDEN / "families.json").read_text())
OPTIONS = {
    "r": 3,
    "lora_alpha": 5,
    "target_modules": ["q_proj", "down_proj", "embed_tokens"],
    "rank_pattern": {"layers.1.self_attn.q_proj": 2},
    "alpha_pattern": {"down_proj": 7},
    "use_rslora": True,
    "init_lora_weights": False,
}


def base(folder):
    """Return the base as transformers loads it."""
    golden = TABLE["granite"]
    (folder / "config.json").write_text(json.dumps(golden["config"]))
    save_file(weights(golden["shapes"]), folder / "model.safetensors")
    return transformers.AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()


def main():
    """Write the adapter and the logits."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        model = peft.get_peft_model(
            base(pathlib.Path(folder)), peft.LoraConfig(**OPTIONS)
        )
        place = GOLDEN / "adapter"
        model.save_pretrained(place, save_embedding_layers=False)
        (place / "README.md").unlink()
        path = place / "adapter_config.json"
        options = json.loads(path.read_text()) | {"base_model_name_or_path": "granite"}
        path.write_text(json.dumps(options, indent=1) + "\n")
        logits = []
        for prompt in prompts(CASES["granite"][1]):
            with torch.no_grad():
                logits.append(model(torch.tensor([prompt])).logits[0].numpy())
    np.savez_compressed(place / "logits.npz", *logits)


if __name__ == "__main__":
    main()
