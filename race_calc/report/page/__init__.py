"""The report page: one HTML file about one model that opens without a network. From data to charts and tables, then by a template to text."""
