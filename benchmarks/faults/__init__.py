"""A training on which a finder leaves traces, the faults that can hit it, and what is looked at before and after."""
