"""Orders from a queue, charged once each: plain consumers and the bridge, killed again and again."""
