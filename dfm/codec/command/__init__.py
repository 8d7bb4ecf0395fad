"""What `dfm encode` and `dfm decode` do with files: one, several, or those of a folder."""
