"""`medtrans selftest`: whether this installation on this machine keeps what medtrans promises."""
