"""Never ends to be imported."""

import time

time.sleep(3600)
