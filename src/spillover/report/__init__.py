"""The kit that reports are made of: HTML, charts, tables, labels. It knows no analysis."""
