"""What is shipped, and how it gets into a PostgreSQL installation."""
