"""What goes wrong in an adversarial training without an error is found, told and recorded."""
