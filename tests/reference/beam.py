"""Beam searches in plain loops over Python lists, one prompt at a time.

`logprobs(tokens)` maps a whole token list, prompt included, to log-probabilities of the
next token (a sequence of floats, -inf for what cannot come).
"""

import itertools
import math


def power(alpha):
    """Score of a hypothesis: its log-probability over a power of its length."""
    return lambda total, length: total / length**alpha


MEAN = power(1.0)


def beam_search(
    logprobs,
    prompt,
    *,
    beams,
    budget,
    eos=(),
    score=MEAN,
    early=False,
    width=None,
):
    """Return finished hypotheses [(score, tokens, total)], best first."""
    width = width or max(2, 1 + len(eos)) * beams
    running, done = [(0.0, [])], []
    for length in range(1, budget + 1):
        pool = []
        for total, tokens in running:
            row = logprobs(prompt + tokens)
            pool += [(total + row[v], [*tokens, v]) for v in range(len(row))]
        pool = [c for c in pool if c[0] > -math.inf]
        pool = sorted(pool, key=lambda c: -c[0])[:width]
        running = []
        for rank, (total, tokens) in enumerate(pool):
            if tokens[-1] in eos or length == budget:
                if rank < beams:
                    done.append((score(total, length), tokens, total))
            elif len(running) < beams:
                running.append((total, tokens))
        done = sorted(done, key=lambda c: -c[0])[:beams]
        if not running or stops(
            done, running[0][0], length, beams, budget, score, early
        ):
            break
    return done


def stops(done, best, length, beams, budget, score, early):
    """Say whether a row ends that has these finished and this best running one."""
    if len(done) < beams:
        return False
    if early is True:
        return True
    lengths = range(length, budget + 1) if early == "never" else [length]
    return max(score(best, n) for n in lengths) <= done[-1][0]


def diverse_beam_search(
    logprobs, prompt, *, beams, groups, diversity, budget, eos=(), score=MEAN
):
    """Return the finished hypotheses of all groups together, best first."""
    each = beams // groups
    width = max(2, 1 + len(eos)) * each
    running, done = [[(0.0, [])] for _ in range(groups)], [[] for _ in range(groups)]
    ended = [False] * groups
    for length in range(1, budget + 1):
        taken = []
        for group in range(groups):
            if ended[group]:
                continue
            pool = []
            for total, tokens in running[group]:
                row = logprobs(prompt + tokens)
                pool += [
                    (total + row[v] - diversity * taken.count(v), [*tokens, v])
                    for v in range(len(row))
                ]
            pool = sorted(pool, key=lambda c: -c[0])[:width]
            running[group] = []
            for rank, (total, tokens) in enumerate(pool):
                if tokens[-1] in eos or length == budget:
                    if rank < each:
                        done[group].append((score(total, length), tokens, total))
                elif len(running[group]) < each:
                    running[group].append((total, tokens))
            taken += [tokens[-1] for _, tokens in running[group]]
            done[group] = sorted(done[group], key=lambda c: -c[0])[:each]
            ended[group] = not running[group] or stops(
                done[group], running[group][0][0], length, each, budget, score, False
            )
    return sorted(itertools.chain(*done), key=lambda c: -c[0])


def constrained_beam_search(
    logprobs, prompt, *, required, beams, budget, eos=(), score=MEAN
):
    """Return finished hypotheses that hold every phrase, best first."""
    width = max(2, 1 + len(eos)) * beams
    running, done = [(0.0, [])], []
    for length in range(1, budget + 1):
        pool = []
        for total, tokens in running:
            row = logprobs(prompt + tokens)
            order = sorted(range(len(row)), key=lambda v: -row[v])[:width]
            for phrase in required:
                matched = progress(tokens, phrase)
                if matched < len(phrase) and phrase[matched] not in order:
                    order.append(phrase[matched])
            pool += [(total + row[v], [*tokens, v]) for v in order]
        pool = [
            c
            for c in pool
            if need(c[1], required) <= budget - length
            and not (c[1][-1] in eos and need(c[1], required) > 0)
        ]
        pool = sorted(pool, key=lambda c: -c[0])
        whole = [c for c in pool if need(c[1], required) == 0]
        for total, tokens in whole[:beams]:
            if tokens[-1] in eos or length == budget:
                done.append((score(total, length), tokens, total))
        banks = {}
        for total, tokens in pool:
            if tokens[-1] not in eos and length < budget:
                banks.setdefault(need(tokens, required), []).append((total, tokens))
        turns = itertools.zip_longest(*(banks[n] for n in sorted(banks)))
        running = [c for turn in turns for c in turn if c is not None][:beams]
        done = sorted(done, key=lambda c: -c[0])[:beams]
        best = max((c[0] for c in running), default=-math.inf)
        if not running or stops(done, best, length, beams, budget, score, False):
            break
    return done


def progress(tokens, phrase):
    """How much of a phrase was matched; all of it stays matched."""
    size = len(phrase)
    if any(tokens[i : i + size] == phrase for i in range(len(tokens) - size + 1)):
        return size
    return max(k for k in range(size) if tokens[len(tokens) - k :] == phrase[:k])


def need(tokens, required):
    """How many tokens complete everything, finishing the furthest phrase first."""
    unmet = [(len(p), progress(tokens, p)) for p in required]
    unmet = [(size, k) for size, k in unmet if k < size]
    return sum(size for size, _ in unmet) - max((k for _, k in unmet), default=0)


def every_text(logprobs, prompt, *, budget, eos=()):
    """Return every text [(total, tokens)] that ends with an eos or at the budget."""
    texts, open_ones = [], [(0.0, [])]
    for length in range(1, budget + 1):
        longer = []
        for total, tokens in open_ones:
            row = logprobs(prompt + tokens)
            for v in range(len(row)):
                item = (total + row[v], [*tokens, v])
                (texts if v in eos or length == budget else longer).append(item)
        open_ones = longer
    return texts
