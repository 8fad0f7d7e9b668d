"""What is wrong with a pattern, and how large one may be."""


class PatternError(ValueError):
    """A pattern that is malformed, unsupported or too large; the message says which."""


# Sizes, not seconds: whether a pattern is refused must not depend on the machine's load.
PARTS_MAX = 100_000  # states of a nondeterministic automaton
STATES_MAX = 30_000  # states of a byte automaton before it is made minimal
WORK_MAX = 1_000_000  # steps taken to make an automaton deterministic
LIFTED_MAX = 2**24  # states times classes of tokens
NESTING_MAX = 100  # levels of a schema


def too_large(what: str, limit: int) -> PatternError:
    """Return the error for a pattern that outgrows one of the limits."""
    return PatternError(
        f"the pattern is too large: it needs more than {limit} {what}; shorten its "
        "counted repetitions, its alternatives or its nesting."
    )
