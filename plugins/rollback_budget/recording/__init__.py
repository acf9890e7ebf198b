"""Recording: any metric source, read in pages, into a file of recorded series."""
