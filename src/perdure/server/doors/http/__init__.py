"""The HTTP doors: what is asked by HTTP, brought to the service and answered. Thin: nothing is decided here."""
