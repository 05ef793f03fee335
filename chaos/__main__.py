"""`python -m chaos`: break a fleet, and judge what its worker saw."""

import sys

from chaos.command import main

if __name__ == "__main__":
    sys.exit(main())
