"""What people run: one file per job, and the command line."""
