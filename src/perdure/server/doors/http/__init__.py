"""What is served over HTTP: JSON for every RPC, by the routes of the protocol's annotations, and Nexus.

`routes.py` is the table of routes, from the descriptors; `messages.py` turns JSON to messages and back, `payloads.py`
knows the short form of payloads; `app.py` serves; `openapi.py` describes; `nexus.py` is Nexus; `door.py` listens. No
decisions here: every request is a call of the service, or of Nexus.
"""
