"""A finished model behind HTTP: patients as JSON in, scores as JSON out.

The scores are those of `clinical score` for the same patients. Nothing of a patient is logged or
kept: what a request brings lies in a private folder until it is answered.
"""

from clinical.serving.app import make_app
from clinical.serving.limits import Limits
from clinical.serving.server import check_host, serve

__all__ = ["Limits", "check_host", "make_app", "serve"]
