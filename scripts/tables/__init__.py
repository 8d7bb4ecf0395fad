"""Tables of results as Markdown: one function a table, without arguments."""
