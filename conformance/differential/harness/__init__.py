"""The differential test's own AMQP 0-9-1 peer, brokers and comparison: Python standard library only."""
