"""Names of the parts of a GGUF file that was split: `name-00001-of-00003.gguf`."""

import re
from pathlib import Path

PART = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.gguf")
PARTS_MAX = 1024


def part_paths(path: str | Path) -> list[Path]:
    """Return the paths of all parts, in order; of a file that is no part, itself.

    Args:
      path: any part, whether the others exist or not.
    """
    path = Path(path)
    found = PART.fullmatch(path.name)
    if found is None or not 1 <= int(found[2]) <= int(found[3]) <= PARTS_MAX:
        return [path]
    name, _, count = found.groups()
    numbers = range(1, int(count) + 1)
    return [path.with_name(f"{name}-{i:05}-of-{count}.gguf") for i in numbers]
