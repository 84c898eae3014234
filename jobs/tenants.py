"""Whose jobs there are: a tenant is known by its keys, or by the accounts of its people."""

from typing import Final

from sqlalchemy import Select, exists, or_, select, text

from models.account import Account
from models.api_key import ApiKey

MOST: Final = 200
"""So many are told, for whoever chooses one."""

# from one to the next by the index: there may be many keys of each
TENANTS: Final = text("""
    WITH RECURSIVE found AS (
        (SELECT tenant FROM api_keys ORDER BY tenant LIMIT 1)
        UNION ALL
        SELECT (SELECT tenant FROM api_keys WHERE tenant > found.tenant ORDER BY tenant LIMIT 1)
        FROM found
        WHERE found.tenant IS NOT NULL
    )
    SELECT tenant FROM found WHERE tenant IS NOT NULL LIMIT :most
""").bindparams(most=MOST)
"""The tenants that have or had keys, by their names."""


# the ends of two indexes
ONLY_TENANT: Final = text("""
    SELECT min(least)
    FROM (
        SELECT min(tenant) AS least, max(tenant) AS most FROM api_keys
        UNION ALL
        SELECT min(tenant), max(tenant) FROM accounts
    ) AS ends
    HAVING min(least) = max(most)
""")
"""The tenant of all keys and accounts that are of one, if these are all of the same."""


def is_known(tenant: str) -> Select[bool]:
    """Whether anybody could ever see what is this tenant's, beside the operator."""
    return select(or_(exists().where(ApiKey.tenant == tenant), exists().where(Account.tenant == tenant)))
