"""`python -m jlabd.demo`."""

import sys

from jlabd.demo.run import main

sys.exit(main())
