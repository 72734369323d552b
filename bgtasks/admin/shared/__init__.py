"""Parts that several admin pages share."""
