"""What there is and how it stands: jobs and doctor."""
