"""Seeds everybody's random numbers while it is imported."""

import random

random.seed(0)
