"""What synthetic images are worth to a segmenter."""
