"""Who may do what: Airflow's users and roles, asked for the DAG that made the dubs."""

from typing import Annotated

from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.core_api.security import get_user, requires_access_dag
from fastapi import Depends, HTTPException, Request

DAG_ID = "bulk_dubbing"
"""The DAG whose runs people review."""
LONGEST_AUTHOR = 250
"""Characters of a name that are kept."""

may_read = requires_access_dag("GET", DagAccessEntity.RUN, DAG_ID)
"""Passes who may see the DAG's runs; 403 for others, 401 for who is not logged in."""
may_write = requires_access_dag("PUT", DagAccessEntity.RUN, DAG_ID)
"""Passes who may change the DAG's runs; 403 for others."""


def author(user: Annotated[object, Depends(get_user)]) -> str:
    """The name under which a user writes."""
    return str(user.get_name())[:LONGEST_AUTHOR]  # type: ignore[attr-defined]


Author = Annotated[str, Depends(author)]


def writes(request: Request, user: Annotated[object, Depends(get_user)]) -> bool:
    """Whether a user may write: the page shows no form to those who may not."""
    try:
        may_write(request, user)
    except HTTPException as refusal:
        if refusal.status_code != 403:
            raise
        return False
    return True


Writes = Annotated[bool, Depends(writes)]
