"""The review room: a page in Airflow's own UI where people look at dubs, talk about them, and decide which go out.

One FastAPI application behind Airflow's login and roles (`app.py`), which `dags/plugins/review_room.py` puts into the API server.
The material is read where the data plane left it (`material.py`, format: `schemas/review.py`). What people write is kept in tables of
its own (`database.py`, `messages.py`, `verdicts.py`); they are the truth, so any number of API servers may serve one room.
"""
