"""Alembic's scripts: how the room's tables came to be. `dags.review_room.database` runs them."""
