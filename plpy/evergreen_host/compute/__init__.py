"""Compute outside the database: claims texts over psycopg, embeds them with the user's code, submits the vectors."""
