"""Training of critics: the embedded `qinsight-mini`'s stages, each one command, seeded and resumable."""
