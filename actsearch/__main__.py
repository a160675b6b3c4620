"""`python -m actsearch`: the command line."""

import sys

from actsearch.cli import main

sys.exit(main())
