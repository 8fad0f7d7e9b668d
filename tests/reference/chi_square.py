"""How likely a chi-square statistic is exceeded, in closed form."""

import math


def chi_square_tail(statistic, degrees):
    """Return P(X > statistic) for X of the chi-square distribution, degrees >= 1."""
    half = statistic / 2
    if degrees % 2 == 0:
        tail, term, first = 0.0, math.exp(-half), 0.0
    else:
        tail, first = math.erfc(math.sqrt(half)), 0.5
        term = math.exp(-half) * math.sqrt(half) / math.gamma(1.5)
    for i in range(degrees // 2):
        tail += term
        term *= half / (i + 1 + first)
    return tail
