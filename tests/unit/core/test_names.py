"""What both sides must agree upon is written down twice, for neither may import the other."""

from sundog_operator.api import environment_variables
from sundog_operator.core import names
from sundog_serving import contract


def test_the_names_that_both_sides_use_are_equal() -> None:
    shared = {name for name in vars(contract) if name.isupper() and hasattr(names, name)}
    assert {name: getattr(names, name) for name in shared} == {name: getattr(contract, name) for name in shared}
    assert shared == {
        "ADAPTERS_ROUTE",
        "APPLICATION",
        "CACHE_MOUNT",
        "DEPLOYMENT",
        "HEAD_PROXY_PORT",
        "GIVEN_BACK",
        "LOAD_ROUTE",
        "MODEL_MOUNT",
        "REPLICA_PORT",
        "REPLICA_RESOURCE",
        "REPLICA_TOKEN_HEADER",
        "REPLICA_TOKEN_VARIABLE",
    }


def test_what_a_replica_tells_people_to_set_they_may_set() -> None:
    told = {contract.READINESS_SECONDS_VARIABLE, contract.STALL_SECONDS_VARIABLE}
    assert told == set(environment_variables.SETTABLE)
