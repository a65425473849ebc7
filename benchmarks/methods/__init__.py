"""Every generator and discriminator by size, cost and memory; docs/methods-compared.md has the table."""
