"""What a result says on a page or in a notebook: the parts of it, as HTML and as Markdown."""
