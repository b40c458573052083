"""Training: what a run decides, how it starts and resumes, and the loop that takes its steps."""
