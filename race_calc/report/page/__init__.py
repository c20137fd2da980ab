"""The report page: one HTML file about one model that opens without a network. Data → charts and tables → template."""
