"""Whether predictions can be trusted: lost and invented lesions, copies, collapse."""
