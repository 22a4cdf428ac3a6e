"""`python -m ftbc_lightning` is `ftbc`."""

import sys

from ftbc_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
