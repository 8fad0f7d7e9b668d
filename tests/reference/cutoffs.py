"""Truncations and scales of one row in plain loops over float64; imports nothing of ours.

Written from the papers and from what Hugging Face, llama.cpp and text-generation-webui
document; logits are lists of floats in which -inf is banned.
"""

import math

from tests.reference.truncation import (
    BANNED,
    LARGEST,
    in_range,
    keep_only,
    order,
    softmax,
)

NEAR = 1e-5  # equal in exact arithmetic, so treated as equal here too


def entropy(logits):
    return -math.fsum(p * math.log(p) for p in softmax(logits) if p > 0)


def at_least(logits, threshold, min_keep=1):
    """Keep probabilities >= threshold, and all as likely as the `min_keep` best."""
    probs, ranked = softmax(logits), order(logits)
    least = logits[ranked[min(min_keep, len(ranked)) - 1]]
    near = threshold * (1 - NEAR)
    kept = [i for i in ranked if probs[i] >= near or logits[i] >= least]
    return keep_only(logits, kept)


def epsilon(logits, eps, min_keep=1):
    return at_least(logits, eps, min_keep)


def eta(logits, eps, min_keep=1):
    return at_least(
        logits, min(eps, math.sqrt(eps) * math.exp(-entropy(logits))), min_keep
    )


def top_a(logits, a, min_keep=1):
    return at_least(logits, a * max(softmax(logits)) ** 2, min_keep)


def p_less(logits, min_keep=1):
    return at_least(logits, math.fsum(p * p for p in softmax(logits)), min_keep)


def typical(logits, mass, ties="keep", min_keep=1):
    probs, h = softmax(logits), entropy(logits)
    allowed = order(logits)
    far = {
        i: abs(-math.log(probs[i]) - h) if probs[i] > 0 else math.inf for i in allowed
    }
    taken, total = [], 0.0
    for i in sorted(allowed, key=lambda i: (round(far[i], 5), allowed.index(i))):
        if total >= mass and len(taken) >= min_keep:
            break
        taken.append(i)
        total += probs[i]
    if ties == "keep":
        limit = max(far[i] for i in taken)
        taken = [i for i in allowed if far[i] <= limit + NEAR]
    return keep_only(logits, taken, min_keep=0)


def top_h(logits, h, min_keep=1):
    ranked = order(logits)[:100]
    probs = softmax([logits[i] for i in ranked])
    shares = [-p * math.log(p) if p > 0 else 0.0 for p in probs]
    limit, spent, kept = h * math.fsum(shares), 0.0, []
    for i, share in zip(ranked, shares, strict=True):
        spent += share
        if spent <= limit or h >= 1:
            kept.append(i)
    return keep_only(logits, kept, min_keep)


def top_n_sigma(logits, n, min_keep=1):
    values = [z for z in logits if z != BANNED]
    if n == 0:
        return list(logits)
    mean = math.fsum(values) / len(values)
    sigma = math.sqrt(
        math.fsum(((z - mean) / LARGEST) ** 2 for z in values) / len(values)
    )
    if sigma * LARGEST < 1e30:
        sigma = (
            math.sqrt(math.fsum((z - mean) ** 2 for z in values) / len(values))
            / LARGEST
        )
    limit = max(values) - n * sigma * LARGEST
    return keep_only(logits, [i for i, z in enumerate(logits) if z >= limit], min_keep)


def tail_free(logits, z, min_keep=1):
    ranked = order(logits)
    probs = [softmax(logits)[i] for i in ranked]
    bends = [
        abs(probs[i] - 2 * probs[i + 1] + probs[i + 2]) for i in range(len(probs) - 2)
    ]
    total = math.fsum(b for b in bends if b > 1e-12)
    if len(ranked) < 3 or total == 0:
        return list(logits)
    kept, spent = [ranked[0]], 0.0
    for i, bend in enumerate(bends):
        spent += bend / total
        if spent <= z:
            kept.append(ranked[i + 1])
    return keep_only(logits, kept, min_keep)


def xtc(logits, threshold, min_keep=1):
    """What is left when the coin says so."""
    probs, ranked = softmax(logits), order(logits)
    tops = [i for i in ranked if probs[i] >= threshold]
    if threshold > 0.5 or len(tops) < 2 or len(ranked) - len(tops) + 1 < min_keep:
        return list(logits)
    return keep_only(logits, [i for i in ranked if i not in tops[:-1]], min_keep=0)


def dynamic_temperature(logits, low, high, exponent):
    ranked = order(logits)
    if len(ranked) < 2:
        return list(logits)
    share = min(max(entropy(logits) / math.log(len(ranked)), 0.0), 1.0)
    return divided(logits, low + (high - low) * share**exponent)


def divided(logits, t):
    best = max(logits)
    if t == 0:
        return keep_only(logits, order(logits)[:1])
    shift = best if abs(best / t) > LARGEST else 0.0
    return in_range([(z - shift) / t if z != BANNED else z for z in logits])


def quadratic(logits, factor, curve):
    best = max(logits)
    k, s = (3 - curve) / 2, (curve - 1) / 2

    def bent(z):
        if z == BANNED or factor == 0:
            return z
        d = z - best
        return best - k * factor * d * d + s * factor * d**3

    return in_range([bent(z) for z in logits])


def mirostat(logits, mu, vocab_size, version, min_keep=1):
    """What is left of one row when the state is `mu`."""
    probs, ranked = softmax(logits), order(logits)
    if version == 2:
        kept = [i for i in ranked if probs[i] > 0 and -math.log2(probs[i]) <= mu]
        return keep_only(logits, kept, min_keep)
    top = 0.0
    bottom = 0.0
    for i in range(min(99, len(ranked) - 1)):
        t = math.log((i + 2) / (i + 1))
        top += t * (logits[ranked[i]] - logits[ranked[i + 1]])
        bottom += t * t
    s = top / bottom if bottom else 0.0
    if s <= 0:
        log_k = math.inf if 2**mu > vocab_size - 1 else -math.inf
    else:
        e = s - 1
        share = 1 / math.log(vocab_size) if abs(e) < 1e-9 else e / (1 - vocab_size**-e)
        log_k = (math.log(share) + mu * math.log(2)) / s
    k = len(ranked) if log_k > 20 else max(math.floor(math.exp(log_k)), 1)
    return keep_only(logits, ranked[:k], min_keep)


def adaptive_p(logits, target, total, weight):
    """The new logits where S is `total` and W is `weight`."""
    aim = min(max(2 * target - total / weight, 0.0), 1.0)
    probs = softmax(logits)

    def wanted(p):
        d = abs(p - aim) / 0.3
        return 5 - 10 * d * d / (1 + d)

    return [wanted(p) if z != BANNED else z for z, p in zip(logits, probs, strict=True)]
