"""Puts the review room into Airflow's API server and its menu: the folder of this file is `AIRFLOW__CORE__PLUGINS_FOLDER`."""

from dags.review_room.plugin import ReviewRoomPlugin

__all__ = ["ReviewRoomPlugin"]
