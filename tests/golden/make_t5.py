"""Writes t5.json: what Hugging Face's T5 generates, searches and scores.

python tests/golden/make_t5.py        # needs torch and transformers

The weights are not stored: `weights_of` makes them again from a seed and the names.
"""

import json
import pathlib

import numpy as np

SIZES = {
    "vocab_size": 37,
    "d_model": 16,
    "d_kv": 8,
    "d_ff": 24,
    "num_layers": 2,
    "num_decoder_layers": 2,
    "num_heads": 2,
    "relative_attention_num_buckets": 8,
    "relative_attention_max_distance": 12,
    "decoder_start_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 0,
}
KINDS = {
    "relu, scaled": {"feed_forward_proj": "relu", "tie_word_embeddings": True},
    "gated, unscaled": {
        "feed_forward_proj": "gated-gelu",
        "tie_word_embeddings": False,
    },
}
PROMPTS = [[5, 9, 2, 30, 11, 7, 8, 3, 21, 17, 4, 6, 33, 1], [12, 1], [7, 7, 7, 1]]
OUTPUTS = [[4, 9, 1], [20, 21, 22, 23, 24, 1]]  # scored for every prompt
NEW_TOKENS, BEAMS = 12, 3


def weights_of(shapes):
    """Return random weights by name; the first dimension of a matrix is its outputs."""
    random = np.random.default_rng(7)
    weights = {}
    for name in sorted(shapes):
        values = random.normal(size=shapes[name])
        scale = 0.7 if values.ndim == 2 else 0.1
        values = values * scale + (values.ndim == 1)
        weights[name] = values.astype(np.float32)
    return weights


def expected(kind):
    """Return the shapes of the weights and what the model says."""
    import torch
    from transformers import T5Config, T5ForConditionalGeneration

    torch.manual_seed(0)
    model = T5ForConditionalGeneration(T5Config(**SIZES, **kind)).eval()
    names = {n: list(p.shape) for n, p in model.named_parameters()}
    state = {n: torch.from_numpy(w) for n, w in weights_of(names).items()}
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    found = {
        "shapes": names,
        "greedy": [],
        "beams": [],
        "beam_scores": [],
        "logprobs": [],
    }
    with torch.no_grad():
        for prompt in PROMPTS:
            ids = torch.tensor([prompt])
            asked = {"max_new_tokens": NEW_TOKENS, "do_sample": False}
            found["greedy"].append(model.generate(ids, **asked)[0, 1:].tolist())
            asked |= {"num_beams": BEAMS, "length_penalty": 1.0}
            asked |= {"return_dict_in_generate": True, "output_scores": True}
            beams = model.generate(ids, **asked)
            found["beams"].append(beams.sequences[0, 1:].tolist())
            found["beam_scores"].append(float(beams.sequences_scores[0]))
            for output in OUTPUTS:
                labels = torch.tensor([output])
                logits = model(input_ids=ids, labels=labels).logits
                logprobs = torch.log_softmax(logits[0], -1)
                found["logprobs"].append(
                    [float(logprobs[i, token]) for i, token in enumerate(output)]
                )
    return found


if __name__ == "__main__":
    path = pathlib.Path(__file__).with_name("t5.json")
    path.write_text(json.dumps({name: expected(kind) for name, kind in KINDS.items()}))
