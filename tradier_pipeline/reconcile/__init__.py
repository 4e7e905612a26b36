"""What was observed, compared with itself over time and with what others believe. Never edits an observed row."""
