"""The bridge from queues to workflows, with real brokers and without any."""
