"""Training of the small restoration nets: tasks, nets, a seeded stream of damaged patches, and the loop."""
