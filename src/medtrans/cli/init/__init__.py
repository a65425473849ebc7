"""`medtrans init`: a config for a folder of the user's own."""
