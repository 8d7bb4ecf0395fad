"""What scripts/table_autoencoders.py is made of: rows, training and measurement, jobs, pictures."""
