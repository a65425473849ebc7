"""Owns the watch over an adversarial training: what goes wrong without an error is found, told and recorded."""

from __future__ import annotations

from medtrans.gan_watch.findings import Findings, findings_in
from medtrans.gan_watch.watcher import GanWatch

__all__ = ["Findings", "GanWatch", "findings_in"]
