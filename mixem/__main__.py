"""``python -m mixem``."""

import sys

from mixem.cli import main

sys.exit(main())
