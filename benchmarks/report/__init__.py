"""What is made of records: tables, plots, one HTML page, a comparison of two runs, the figures of docs/."""
