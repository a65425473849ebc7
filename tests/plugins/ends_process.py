"""Ends the process that imports it, with a status that looks like success."""

import os

os._exit(0)
