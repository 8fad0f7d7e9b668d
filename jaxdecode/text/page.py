"""A page of mixed text with which int8 weights are calibrated.

The model reads it once, to measure the size of its activations (`models.moments`). It
has a story, speech, a recipe, code, a proof, minutes, JSON and a letter. Another text
would do, random tokens would not: the default model's divergence from float32 is 0.0023
with this page and 0.0032 with random tokens (2026-11-24).
"""

import numpy as np

from jaxdecode.text.tokenizer import Tokenizer

ROW_MAX = 256


def page_tokens(tokenizer: Tokenizer, max_length: int) -> np.ndarray:
    """Return the page as rows of tokens, int32 [B, S].

    Args:
      tokenizer: the model's tokenizer.
      max_length: positions of the model; a row is no longer.
    """
    ids = np.asarray(tokenizer.encode(PAGE), np.int32)
    length = min(len(ids), ROW_MAX, max_length)
    return ids[: len(ids) // length * length].reshape(-1, length)


PAGE = """\
The harbour was quiet when Maria came down the stairs. Two boats had left before dawn,
and only the old ferryman was still there, mending a net by the light of a lamp.

"You are late," he said without looking up. "The wind turned an hour ago."

"I know. I had to wait for the letter." She sat down on an upturned crate and held out
the envelope. "Read it, please. I never learned their language."

A river carries sand from the mountains to the sea. Where the water slows, the heavy
grains sink first and the fine clay last, so that a cut through an old delta shows the
history of every flood. In 1953, engineers measured 4.7 million tonnes of it in a
single spring; by 1998 the figure had fallen to 1.2 million, because dams upstream now
hold most of it back.

User: How do I make bread without yeast?
Assistant: Use baking soda and something sour. Here is a simple recipe:

1. Mix 450 g of flour, 1 teaspoon of salt and 1 teaspoon of baking soda.
2. Stir in 400 ml of buttermilk until there is no dry flour left.
3. Shape the dough, cut a cross into it and bake it at 200 degrees for 40 minutes.

def mean(values):
    \"\"\"Return the average of a list of numbers.\"\"\"
    total = 0.0
    for value in values:
        total += value
    return total / len(values)

If n is even then n = 2k for some integer k, hence n^2 = 4k^2 is even as well. The
converse holds too: suppose that n^2 is even and n is odd; then n = 2k + 1 and n^2 =
4k(k + 1) + 1 would be odd, which is a contradiction.

The committee met on Tuesday, 14 March, to discuss the budget. Members agreed that
spending on schools should rise by three per cent, but could not settle how to pay for
it. A second meeting is planned for next month; until then the old rules apply, and
any office that needs more money has to ask the treasurer in writing.

{"name": "lamp", "price": 19.99, "tags": ["home", "light"], "in_stock": true}

Dear Mr. Okafor, thank you for your message of last week. We are sorry to hear that
the parcel did not arrive in time. A new one was sent this morning and should reach
you within three days. Kind regards, the service team.

Why is the sky blue? Sunlight holds all colours, and air scatters the short waves more
than the long ones. What reaches us from the side is mostly blue, while a low sun,
seen through much more air, looks red. The same law explains why distant hills seem
pale, and why smoke from a fire can be blue against dark trees but brown against a
bright cloud.
"""
