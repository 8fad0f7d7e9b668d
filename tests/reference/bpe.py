"""Byte-pair encoding in plain loops; imports nothing of ours."""

import itertools


def byte_letters():
    """The character that stands for each byte: printable ones for themselves."""
    letters, extra = {}, 0
    for byte in range(256):
        printable = 33 <= byte <= 126 or 161 <= byte <= 172 or 174 <= byte <= 255
        letters[byte] = chr(byte) if printable else chr(256 + extra)
        extra += not printable
    return letters


def merge_word(word, merges):
    """Cut one word: join the pair of lowest rank, leftmost first, until none is left."""
    letters = byte_letters()
    parts = [letters[byte] for byte in word.encode()]
    ranks = {pair: rank for rank, pair in enumerate(merges)}
    while True:
        pairs = list(itertools.pairwise(parts))
        known = [pair for pair in pairs if pair in ranks]
        if not known:
            return parts
        at = pairs.index(min(known, key=ranks.get))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


def encode_words(words, merges, ids):
    """Return the ids of words that were cut already."""
    return [ids[part] for word in words for part in merge_word(word, merges)]


def encode_scored(text, scores, ids, unknown):
    """SentencePiece's BPE: join the neighbours whose union scores best, leftmost first.

    What is left over is spelled in bytes where there are byte tokens, else it is
    unknown; unknown neighbours are one token.
    """
    parts = list(text)
    while True:
        joined = [a + b for a, b in itertools.pairwise(parts)]
        known = [word for word in joined if word in scores]
        if not known:
            break
        at = joined.index(max(known, key=scores.get))
        parts[at : at + 2] = [joined[at]]
    out = []
    for part in parts:
        spelled = [f"<0x{byte:02X}>" for byte in part.encode()]
        if part in scores:
            out.append(ids[part])
        elif all(byte in ids for byte in spelled):
            out += [ids[byte] for byte in spelled]
        elif not out or out[-1] != unknown:
            out.append(unknown)
    return out
