"""What data looks like: settings, tables, job rows, reasons. The lowest floor: it imports nothing of ours."""
