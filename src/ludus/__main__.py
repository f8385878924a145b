"""`python -m ludus` is the command `ludus`."""

import sys

from ludus.cli.main import main

sys.exit(main())
