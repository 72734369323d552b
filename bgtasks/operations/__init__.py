"""Operations by hand: the actions that the admin and the management commands share."""
