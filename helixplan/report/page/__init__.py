"""A plan or a suite as one page of HTML that needs nothing else."""
