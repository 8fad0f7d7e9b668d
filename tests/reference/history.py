"""Links that look at the text so far, in plain loops; imports nothing of ours."""

import math

BANNED = -math.inf


def common_suffix(a, b):
    length = 0
    while length < min(len(a), len(b)) and a[-1 - length] == b[-1 - length]:
        length += 1
    return length


def dry(logits, tokens, multiplier, base, allowed_length, window=None, breakers=()):
    text = (
        list(tokens) if window is None else list(tokens)[max(len(tokens) - window, 0) :]
    )
    since = 0  # tokens behind the last breaker
    while since < len(text) and text[-1 - since] not in breakers:
        since += 1
    longest = {}
    for i, token in enumerate(text):
        length = min(common_suffix(text[:i], text), since)
        longest[token] = max(longest.get(token, 0), length)
    result = list(logits)
    if len(text) <= allowed_length:
        return result
    clip = math.floor(88.7228 / math.log(max(base, 1.000001)))
    for token, length in longest.items():
        if length >= allowed_length and token not in breakers:
            result[token] -= multiplier * base ** min(length - allowed_length, clip)
    return result


def no_repeat_ngram(logits, tokens, n):
    if n == 0 or len(tokens) < n:
        return list(logits)
    end = tokens[len(tokens) - n + 1 :]
    banned = {
        tokens[i + n - 1]
        for i in range(len(tokens) - n + 1)
        if tokens[i : i + n - 1] == end
    }
    return [BANNED if i in banned else z for i, z in enumerate(logits)]


def sequence_bias(logits, tokens, pairs):
    result = list(logits)
    for sequence, bias in pairs:
        prefix = list(sequence[:-1])
        if len(prefix) <= len(tokens) and tokens[len(tokens) - len(prefix) :] == prefix:
            result[sequence[-1]] += bias
    return result


def encoder_repetition(logits, prompt, penalty):
    def raised(z):
        return min(z * penalty, 3.4028235e38) if z > 0 else z / penalty

    return [raised(z) if i in prompt else z for i, z in enumerate(logits)]


def only(logits, ids):
    return [z if i in ids else BANNED for i, z in enumerate(logits)]


def decayed(logits, generated, start, factor, eos_ids):
    beyond = len(generated) - start
    result = list(logits)
    for i in eos_ids:
        if beyond > 0 and logits[i] != BANNED:
            raised = logits[i] + abs(logits[i]) * (factor**beyond - 1)
            result[i] = min(raised, 3.4028235e38)
    return result


def scrambled(word):
    """lowbias32 by Wellons, after a step by the golden ratio."""
    word = (word + 0x9E3779B9) % 2**32
    word = (word ^ (word >> 16)) * 0x7FEB352D % 2**32
    word = (word ^ (word >> 15)) * 0x846CA68B % 2**32
    return word ^ (word >> 16)


def is_green(seed, last, token, fraction):
    word = scrambled(scrambled(scrambled(seed) ^ last) ^ token)
    return (word >> 8) / 2**24 < fraction


def watermarked(logits, tokens, bias, fraction, seed):
    if not tokens:
        return list(logits)
    return [
        z + bias if is_green(seed, tokens[-1], i, fraction) else z
        for i, z in enumerate(logits)
    ]
