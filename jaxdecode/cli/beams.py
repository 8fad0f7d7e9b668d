"""`jaxdecode generate --beams N`: the best continuations and their scores, as a table."""

from typing import TYPE_CHECKING

from jaxdecode.cli import interrupt, runtime

if TYPE_CHECKING:
    from jaxdecode.text.beams import TextHypothesis


def show_beams(
    session: runtime.Session, prompt: str, beams: int, length_penalty: float
) -> None:
    """Search and print every hypothesis with its score, best first.

    Penalties, biases and bans of the sampler act on the log-probs. Truncations and
    temperature have no meaning in a search and are left out.
    """
    from jaxdecode.transforms import Edit, chain

    settings = dict(session.settings)
    edits = [link for link in settings.pop("sampler").links if isinstance(link, Edit)]
    settings.pop("key")  # a search draws nothing
    with interrupt.exit_at_once():
        found = session.model.beam_search(
            prompt,
            num_beams=beams,
            num_return=beams,
            length_penalty=length_penalty,
            edits=chain(*edits),
            **settings,
        )
    _print_table(found)


def _print_table(found: "list[TextHypothesis]") -> None:
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
