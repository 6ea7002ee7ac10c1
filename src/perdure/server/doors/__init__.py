"""Doors: thin adapters that bring calls to the service and its answers and errors back. No decisions here."""
