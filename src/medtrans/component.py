"""Temporary."""

from medtrans.components import *
