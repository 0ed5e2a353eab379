"""`python -m autoinstr`: the same as the command."""

import sys

from autoinstr.cli.main import main

sys.exit(main())
