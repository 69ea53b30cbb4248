"""What queues hold: one file per kind of broker. See docs/queues.md."""
