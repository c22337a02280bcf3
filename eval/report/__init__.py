"""What people look at: tables, radar, page."""
