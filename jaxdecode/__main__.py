"""`python -m jaxdecode` is the command line."""

import sys

from jaxdecode.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
