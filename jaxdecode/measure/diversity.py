"""How varied texts are: distinct n-grams, self-BLEU, repetition. Texts are token lists.

Plain Python on small counters; knows nothing of models.
"""

import math
from collections import Counter
from collections.abc import Sequence

Text = Sequence[int]
BLEU_ORDER = 4
SMOOTHING = 0.1  # matches that stand for none, or one missing order would make all 0


def distinct(texts: Sequence[Text], n: int) -> float:
    """Return the share of different n-grams among all n-grams of some texts; 0 of none.

    Reference: Li et al., A Diversity-Promoting Objective Function for Neural
    Conversation Models, 2016, arXiv 1510.03055.
    """
    grams = Counter()
    for text in texts:
        grams.update(ngrams(text, n))
    return len(grams) / max(grams.total(), 1)


def repetition(text: Text, n: int = 4) -> float:
    """Return the share of a text's n-grams that stood in it before; 0 of none.

    Reference: Welleck et al., Neural Text Generation with Unlikelihood Training, 2019,
    arXiv 1908.04319, "seq-rep-n".
    """
    grams = ngrams(text, n)
    return 1 - len(grams) / grams.total() if grams else 0.0


def self_bleu(texts: Sequence[Text]) -> float | None:
    """Return the mean BLEU of each text with the others as references; high is alike.

    None of fewer than two texts. BLEU has orders 1 to 4 with equal weights, and an
    order without a match counts as 0.1 matches.

    Reference: Zhu et al., Texygen: A Benchmarking Platform for Text Generation Models,
    2018, arXiv 1802.01886; Chen and Cherry, A Systematic Comparison of Smoothing
    Techniques for Sentence-Level BLEU, 2014, method 1.
    """
    if len(texts) < 2:
        return None
    scores = [
        bleu(text, [*texts[:place], *texts[place + 1 :]])
        for place, text in enumerate(texts)
    ]
    return sum(scores) / len(scores)


def bleu(text: Text, references: Sequence[Text]) -> float:
    """Return the BLEU of a text, in [0, 1]; 0 of an empty one."""
    if not text:
        return 0.0
    total, orders = 0.0, min(BLEU_ORDER, len(text))
    for n in range(1, orders + 1):
        grams, most = ngrams(text, n), Counter()
        for reference in references:
            most |= ngrams(reference, n)
        matches = (grams & most).total() or SMOOTHING
        total += math.log(matches / grams.total())
    # Of the nearest lengths the shorter one.
    near = min((abs(len(r) - len(text)), len(r)) for r in references)[1]
    brevity = min(0.0, 1 - near / len(text))
    return math.exp(brevity + total / orders)


def ngrams(text: Text, n: int) -> Counter:
    """Return how often each run of n tokens occurs in a text."""
    return Counter(zip(*(text[i:] for i in range(n)), strict=False))
