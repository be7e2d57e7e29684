"""A config: its keys as records, the file that is read and checked, the run it becomes and what the jobs are given."""
