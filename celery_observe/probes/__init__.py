"""What is asked, on connections of their own and never on a scrape."""
