"""What people are shown of a bulk run before its dubs go out."""
