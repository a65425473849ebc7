"""Tests of the benchmarks: what they report holds together; speed itself is not tested."""
