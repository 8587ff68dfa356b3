"""The reference pages, generated from a live database, the command line and the code."""
