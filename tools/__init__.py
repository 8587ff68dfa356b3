"""What makes the documentation: the site, the reference pages and the pictures."""
