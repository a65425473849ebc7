"""Owns `medtrans bench`: what a config's training and prediction cost on this machine, and what bounds them."""
