"""`python -m jaxdecode` is the command line."""

import os
import sys


def leave_current_folder() -> None:
    """Take the folder that `python -m` puts first off the path.

    A file in it, such as `rich.py`, `readline.py` or a plugin of JAX, would be run in
    place of the module of that name. The command `jaxdecode` never looks there.
    """
    if not sys.flags.safe_path and sys.path[:1] == [os.getcwd()]:
        del sys.path[0]


if __name__ == "__main__":
    leave_current_folder()
    from jaxdecode.cli.main import main

    sys.exit(main())
