"""Proving on the user's own data what a score does not depend on."""

from clinical.leak_audit.checks import SAMPLES, Audit, audit, check_out
from clinical.leak_audit.line import BLIND, HOLDS, LEAK, NOTHING

__all__ = ["BLIND", "HOLDS", "LEAK", "NOTHING", "SAMPLES", "Audit", "audit", "check_out"]
