"""Truncations and scales of one row in plain loops over float64; imports nothing of ours.

Each function takes logits, a list of floats in which -inf is banned, and returns the
same list with dropped tokens at -inf.
"""

import math

BANNED = -math.inf
LARGEST = 3.4028234e38


def order(logits):
    """Allowed tokens, most likely first, ties by id."""
    allowed = [i for i, z in enumerate(logits) if z != BANNED]
    return sorted(allowed, key=lambda i: (-logits[i], i))


def softmax(logits):
    best = max(logits)
    weights = [math.exp(z - best) if z != BANNED else 0.0 for z in logits]
    total = math.fsum(weights)
    return [w / total for w in weights]


def keep_only(logits, kept, min_keep=1):
    kept = set(kept) | set(order(logits)[:min_keep])
    return [z if i in kept else BANNED for i, z in enumerate(logits)]


def top_k(logits, k, ties="exact", min_keep=1):
    ranked = order(logits)
    if k == 0:
        return list(logits)
    k = max(k, min_keep)
    if ties == "exact" or k >= len(ranked):
        return keep_only(logits, ranked[:k])
    cut = logits[ranked[k - 1]]
    return keep_only(logits, [i for i in ranked if logits[i] >= cut])


def top_p(logits, p, min_keep=1):
    if p >= 1:
        return list(logits)
    probs, kept, mass = softmax(logits), [], 0.0
    for i in order(logits):
        if mass >= p:
            break
        kept.append(i)
        mass += probs[i]
    return keep_only(logits, kept, min_keep)


def min_p(logits, p, min_keep=1):
    probs = softmax(logits)
    best = max(probs)
    if p == 0:
        return list(logits)
    kept = [i for i in order(logits) if probs[i] >= p * best * (1 - 1e-6)]
    return keep_only(logits, kept, min_keep)


def temperature(logits, t):
    ranked = order(logits)
    if t == 0:
        return keep_only(logits, ranked[:1])
    best = logits[ranked[0]]
    shift = best if abs(best / t) > LARGEST else 0.0  # the same distribution, in range
    return in_range([(z - shift) / t if z != BANNED else z for z in logits])


def in_range(logits):
    """What float32 cannot hold below is -inf."""
    return [BANNED if z < -LARGEST else z for z in logits]
