"""The pictures of the documentation, drawn as SVG by this package alone."""
