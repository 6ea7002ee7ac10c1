"""The services of a server, as a client calls them: connection, metadata, retries, errors, one method per RPC.

May live here: whatever is needed to make one RPC well. May not: what workflows, schedules or activities mean
(`perdure.client`).
"""
