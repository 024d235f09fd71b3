"""The page in the browser: ``fastnst ui``, and ``--preview`` of a running job (extra ``ui``).

Results stay with the visitor who asked for them: they are never files that the server offers, they
are sent inside the page, as data.
"""
