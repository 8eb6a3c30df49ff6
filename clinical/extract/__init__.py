"""Files to a valid MEDS extract: opening, checking, writing and importing."""
