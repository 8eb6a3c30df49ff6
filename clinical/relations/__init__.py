"""Who is related to whom: keys from what is visible, and neighbour tables of references."""

from clinical.relations.given import GivenEdges
from clinical.relations.keys import Edges, Given, Inputs, Keyed, Keys, Relation
from clinical.relations.same_unit import SameUnit
from clinical.relations.shares_code import SharesCode
from clinical.relations.similar import Similar

RELATIONS: dict[str, type[Relation]] = {
    "similar": Similar,
    "shares_code": SharesCode,
    "same_unit": SameUnit,
    "given": GivenEdges,
}

__all__ = ["RELATIONS", "Edges", "Given", "Inputs", "Keyed", "Keys", "Relation"]
