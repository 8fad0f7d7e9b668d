"""Penalties of one row in plain loops; imports nothing of ours."""

BANNED = float("-inf")


def counted(prompt, generated, count_prompt, window):
    """The tokens that count, in order."""
    everything = list(prompt) + list(generated)
    first = 0 if count_prompt else len(prompt)
    if window is not None:
        first = max(first, len(everything) - window)
    return everything[first:]


def frequency(logits, tokens, penalty):
    return [z - tokens.count(i) * penalty for i, z in enumerate(logits)]


def presence(logits, tokens, penalty):
    return [z - penalty if i in tokens else z for i, z in enumerate(logits)]


def repetition(logits, tokens, penalty):
    def lowered(z):
        return z / penalty if z > 0 else z * penalty

    return [lowered(z) if i in tokens else z for i, z in enumerate(logits)]


def ban(logits, ids):
    return [BANNED if i in ids else z for i, z in enumerate(logits)]
