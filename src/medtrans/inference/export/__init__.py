"""A trained run as a folder that holds weights, settings and a model card, and no code."""
