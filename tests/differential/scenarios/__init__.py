"""The scenarios, one file per theme. Each is independent: own ids, own task queues, own namespaces if it makes any."""
