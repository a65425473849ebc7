"""What medtrans costs and how methods compare, measured; README.md lists the scripts."""
