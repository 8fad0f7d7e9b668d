"""The joint sampler in plain numpy loops: penalties, top-k, top-p, min-p, temperature."""

import numpy as np


def joint_row(
    logits,
    prompt,
    generated,
    *,
    top_k=0,
    top_p=1.0,
    min_p=0.0,
    temperature=1.0,
    repetition_penalty=1.0,
    frequency_penalty=0.0,
    presence_penalty=0.0,
):
    """Return the processed row, float32; dropped tokens are -inf."""
    row = np.array(logits, np.float32)
    f32 = np.float32
    for token in set(prompt) | set(generated):
        z = row[token]
        row[token] = (
            z / f32(repetition_penalty) if z > 0 else z * f32(repetition_penalty)
        )
    for token in set(generated):
        row[token] -= f32(generated.count(token)) * f32(frequency_penalty)
        row[token] -= f32(presence_penalty)
    order = sorted(range(len(row)), key=lambda i: (-row[i], i))
    order = [i for i in order if row[i] > -np.inf]
    if top_k:
        order = order[:top_k]
    if top_p < 1:
        probs, kept, mass = _softmax(row[order]), [], 0.0
        for i, p in zip(order, probs, strict=True):
            if kept and mass >= top_p:
                break
            kept.append(i)
            mass += p
        order = kept
    if min_p > 0:
        order = [i for i in order if row[i] >= row[order[0]] + np.log(f32(min_p))]
    if temperature == 0:
        order, temperature = order[:1], 1.0
    result = np.full_like(row, -np.inf)
    result[order] = row[order] / f32(temperature)
    return result


def _softmax(values):
    weights = np.exp(np.asarray(values, np.float64) - np.max(values))
    return weights / weights.sum()
