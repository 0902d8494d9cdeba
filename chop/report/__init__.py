"""The page about one design: read from files, written as one HTML file that needs no network."""
