"""A file's model behind HTTP: a page for people, and JSON for programs. Needs the extra `serve`."""
