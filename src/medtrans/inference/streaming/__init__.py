"""Translation of images larger than memory, slab by slab."""
