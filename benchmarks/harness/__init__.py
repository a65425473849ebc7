"""Measures a config on this machine; read `report.py` first."""
