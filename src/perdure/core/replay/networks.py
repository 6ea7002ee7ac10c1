"""Modules whose calls use the network, which no replay can repeat: what guards and the linter both know.

Names alone live here, and nothing that looks for them.
"""

from typing import Final

NETWORK_MODULES: Final = (
    "requests.", "httpx.", "aiohttp.", "urllib3.", "urllib.request.", "http.client.", "xmlrpc.client.", "socket.",
    "smtplib.", "ftplib.", "imaplib.", "poplib.", "boto3.", "botocore.", "grpc.", "websockets.", "psycopg.",
    "asyncpg.", "redis.",
)  # fmt: skip
"""Libraries that are called to use the network, whatever they ask for first (settings of proxies, as a rule). Each with
a dot at its end, so that it stands for all in it."""
