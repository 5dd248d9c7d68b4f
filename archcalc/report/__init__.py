"""What the commands print: results become sheets (what to show), sheets become text, markdown, JSON or CSV."""
