"""`jaxdecode generate --beams N`: the best continuations and their scores, as a table."""

from typing import Any

from jaxdecode.cli import interrupt, runtime


def show_beams(seat: runtime.Seat, prompt: str, beams: int, penalty: float) -> None:
    """Search and print every hypothesis with its score, best first.

    Penalties, biases and bans of the sampler act on the log-probs; truncations and
    temperature mean nothing to a search and are left out.
    """
    from jaxdecode.transforms import Edit, chain

    settings = dict(seat.settings)
    edits = [link for link in settings.pop("sampler").links if isinstance(link, Edit)]
    settings.pop("key")  # a search draws nothing
    with interrupt.leave_at_once():
        found = seat.model.beam_search(
            prompt,
            num_beams=beams,
            num_return=beams,
            length_penalty=penalty,
            edits=chain(*edits),
            **settings,
        )
    _print_table(found)


def _print_table(found: list[Any]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table("rank", "score", "end", "text", show_lines=True)
    for rank, hypothesis in enumerate(found, 1):
        table.add_row(
            str(rank),
            f"{hypothesis.score:.4f}",
            hypothesis.status.name.lower(),
            Text(hypothesis.text.strip("\n")),
        )
    Console().print(table)
